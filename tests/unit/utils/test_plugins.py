"""Names that stand for code: registered ones, and package.module:attribute."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from markov_cot.utils.errors import UserError
from markov_cot.utils.plugins import Registry, import_attribute, is_code, provenance


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory whose modules are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    known = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - known:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("pkg.module:thing", True),
        ("module:Class.method", True),
        ("answer_logprob", False),
        ("C:\\data\\mine.jsonl", False),
        ("hub:gsm8k (main)", False),
        ("a:b:c", False),
        (":f", False),
        (3, False),
    ],
)
def test_what_counts_as_code(name: object, expected: bool) -> None:
    assert is_code(name) is expected


def test_an_unknown_name_lists_what_there_is() -> None:
    losses = Registry("loss", {"ppo": 1, "policy_gradient": 2})
    with pytest.raises(UserError, match=r"loss 'pppo': not known; did you mean ppo\? there are ppo, policy_gradient"):
        losses.resolve("pppo")


def test_a_module_in_the_working_directory_is_found(here: Path) -> None:
    (here / "mine_xyz.py").write_text("class A:\n    value = 7\n")
    assert Registry("loss", {}).resolve("mine_xyz:A.value") == 7
    assert provenance("mine_xyz:A").startswith("sha256 ")


def test_an_installed_distribution_is_named_with_its_version() -> None:
    assert import_attribute("yaml:safe_load", "dataset") is not None
    assert provenance("yaml:safe_load").startswith("PyYAML ")


@pytest.mark.parametrize(
    ("text", "name", "reason"),
    [
        (
            "raise RuntimeError('no\\nluck')",
            "bad_xyz:f",
            r"bad_xyz cannot be imported \(RuntimeError: no\)",
        ),
        ("def g(): ...", "bad_xyz:f", "bad_xyz has no f; it has g"),
        ("", "absent_xyz:f", "absent_xyz cannot be imported"),
    ],
)
def test_code_that_cannot_be_had_is_one_line(here: Path, text: str, name: str, reason: str) -> None:
    (here / "bad_xyz.py").write_text(text)
    with pytest.raises(UserError, match=f"reward {name}: {reason}") as caught:
        Registry("reward", {}).resolve(name)
    assert "\n" not in str(caught.value)


def test_a_name_is_registered_once() -> None:
    losses: Registry[int] = Registry("loss", {})
    assert losses.register("mine")(3) == 3
    assert dict(losses) == {"mine": 3}
    with pytest.raises(ValueError, match="registered already"):
        losses.register("mine")
