"""Warnings of ours fail; other libraries' are on a list, each with a date and a reason."""

from __future__ import annotations

import datetime
import re
import warnings
from pathlib import Path

import pytest

import markov_cot
from markov_cot.cli.main import main
from tests.command_fixtures import SMALL
from tests.known_warnings import KNOWN, Known, no_warning_but

LISTED = Known("a library 1.0", FutureWarning, "`old` is deprecated", "2026-01-31", "it is theirs")


def test_a_warning_that_is_not_listed_fails() -> None:
    with pytest.raises(AssertionError, match="`cache` is deprecated"), no_warning_but([LISTED]):
        warnings.warn("`cache` is deprecated", FutureWarning, stacklevel=1)


def test_a_warning_of_another_category_than_the_listed_one_fails() -> None:
    with pytest.raises(AssertionError, match="UserWarning"), no_warning_but([LISTED]):
        warnings.warn("`old` is deprecated", UserWarning, stacklevel=1)


def test_a_warning_fails_although_an_exception_in_its_place_would_be_caught() -> None:
    with pytest.raises(AssertionError, match="unlisted"), no_warning_but([LISTED]):
        try:
            warnings.warn("unlisted", FutureWarning, stacklevel=1)
        except Warning:
            raise RuntimeError("warnings are recorded, not raised") from None


def test_a_listed_warning_passes() -> None:
    with no_warning_but([LISTED]):
        warnings.warn("`old` is deprecated and gone soon", FutureWarning, stacklevel=1)


@pytest.mark.parametrize("known", KNOWN, ids=lambda known: known.library)
def test_every_listed_warning_has_a_date_and_a_reason(known: Known) -> None:
    assert datetime.date.fromisoformat(known.noted) > datetime.date(2026, 1, 1)
    assert len(known.reason) > 20
    assert re.compile(known.message)
    assert ":" not in known.message, "pytest's filters are split at colons"


def test_pytest_raises_what_is_reported_in_our_files() -> None:
    namespace = {"__name__": "markov_cot.anywhere"}
    for category in (UserWarning, FutureWarning, DeprecationWarning, RuntimeWarning):
        with pytest.raises(category, match="ours"):
            exec(f"import warnings; warnings.warn('ours', {category.__name__})", namespace)


def test_our_own_warnings_are_logged() -> None:
    """The command line hides Python's warnings, so none of ours may be one."""
    package = Path(markov_cot.__file__).parent
    sources = {path.relative_to(package): path.read_text(encoding="utf-8") for path in package.rglob("*.py")}
    assert not [str(path) for path, text in sources.items() if "warnings.warn(" in text]


@pytest.mark.slow
def test_training_and_evaluating_warns_of_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    # The command line sends warnings to a log that hides them; here they stay warnings.
    monkeypatch.setattr("logging.captureWarnings", lambda _: None)
    for command in (["train", "--run", "r", *SMALL], ["eval", "--run", "r", "--limit", "2"], ["sample", "--n", "1"]):
        with no_warning_but(), pytest.raises(SystemExit) as stopped:
            main(command)
        assert stopped.value.code == 0
