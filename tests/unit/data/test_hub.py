from __future__ import annotations

from typing import Any

import pytest

from markov_cot.data.hub import Hub, HubError, open_first, open_hub

datasets = pytest.importorskip("datasets")


def test_the_hub_is_read_through_datasets_and_runs_no_foreign_code(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def load_dataset(*arguments: Any, **options: Any) -> dict[str, list[Any]]:
        asked.append((arguments, options))
        return {"train": []}

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert open_hub("openai/gsm8k", "main") == {"train": []}
    assert asked == [(("openai/gsm8k", "main"), {})]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ConnectionError("no\n route"), "no route"),
        (RuntimeError("Dataset scripts are no longer supported"), "Dataset scripts are no longer supported"),
        (OSError(), "OSError"),
        (ValueError("x" * 500), "x" * 197 + "..."),
    ],
)
def test_every_failure_becomes_one_line(monkeypatch: pytest.MonkeyPatch, error: Exception, reason: str) -> None:
    def load_dataset(*arguments: Any) -> None:
        raise error

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(HubError) as raised:
        open_hub("a/b", None)
    assert str(raised.value) == reason and raised.value.__cause__ is error


def test_ids_are_tried_in_order() -> None:
    hub = Hub(("a/one", "b/two"), "main", {})

    def only_two(dataset_id: str, config: str | None) -> dict[str, list[Any]]:
        if dataset_id == "a/one":
            raise HubError("gone")
        return {"train": []}

    def none(dataset_id: str, config: str | None) -> dict[str, list[Any]]:
        raise HubError("offline")

    assert open_first(hub, only_two) == ("b/two", {"train": []})
    with pytest.raises(HubError, match="a/one: offline; b/two: offline"):
        open_first(hub, none)
    assert str(hub) == "a/one (main)"
