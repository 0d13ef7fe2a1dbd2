"""How often Python looks for garbage while a command starts."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from markov_cot.cli.main import cli, main
from markov_cot.utils.garbage import collecting_rarely


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)


@pytest.mark.parametrize(
    ("before", "within"),
    [((700, 10, 10), (10_000, 10, 10)), ((50_000, 5, 7), (50_000, 5, 7)), ((0, 10, 10), (0, 10, 10))],
    ids=["python's own", "rarer already", "never"],
)
def test_it_is_rarer_and_then_as_before(before: tuple[int, int, int], within: tuple[int, int, int]) -> None:
    gc.set_threshold(*before)
    with pytest.raises(KeyError), collecting_rarely():
        assert gc.get_threshold() == within
        raise KeyError
    assert gc.get_threshold() == before


def test_a_command_collects_rarely(monkeypatch: pytest.MonkeyPatch) -> None:
    gc.set_threshold(700, 10, 10)
    seen = []
    monkeypatch.setattr(cli, "main", lambda *_, **__: seen.append(gc.get_threshold()))
    with pytest.raises(SystemExit):
        main(["runs"])
    assert seen == [(10_000, 10, 10)] and gc.get_threshold() == (700, 10, 10)
