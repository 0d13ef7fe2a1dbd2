"""The lock, the caps and the lower bounds agree with each other."""

from __future__ import annotations

import re

import pytest
from packaging.requirements import Requirement

from tests.versions.oldest import lower_bounds, requirements
from tests.versions.renew_lock import LOCK, lock_lines

LOCKED = dict(
    line.split("==") for line in LOCK.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")
)


@pytest.mark.parametrize("line", requirements())
def test_a_requirement_has_a_lower_bound_and_a_cap_and_allows_the_locked_version(line: str) -> None:
    requirement = Requirement(line)
    assert sorted(each.operator for each in requirement.specifier) == ["<", ">="]
    locked = LOCKED[requirement.name.lower()]
    assert locked in requirement.specifier
    [oldest] = lower_bounds([line])
    assert oldest.partition("==")[2] in requirement.specifier


def test_the_caps_are_at_the_newest_minor_release_that_was_tested() -> None:
    """Transformers alone may go further: up to the release that drops what it deprecates now."""
    for line in requirements():
        requirement = Requirement(line)
        major, minor = map(int, LOCKED[requirement.name.lower()].split(".")[:2])
        beyond = requirement.specifier.contains(f"{major}.{minor + 1}")
        assert beyond == (requirement.name == "transformers"), line
    transformers = Requirement(next(line for line in requirements() if line.startswith("transformers")))
    assert not transformers.specifier.contains("5.40.0")


def test_the_lock_holds_for_every_build_of_a_version() -> None:
    assert all(re.fullmatch(r"[0-9][0-9a-z.]*", version) for version in LOCKED.values()), "no local version like +cpu"
    resolved = {"torch": "2.13.0+cpu", "nvidia-cublas": "13.1", "triton": "3.5.0", "markov-cot": "0.1.0", "A_b": "1.0"}
    assert lock_lines(resolved) == ["a-b==1.0", "torch==2.13.0"]


def test_a_requirement_without_a_lower_bound_is_named() -> None:
    assert lower_bounds(["torch >=2.9,<2.14", "PyYAML >=6.0.2,<6.1"]) == ["torch==2.9", "PyYAML==6.0.2"]
    with pytest.raises(ValueError, match="numpy <3"):
        lower_bounds(["numpy <3"])
