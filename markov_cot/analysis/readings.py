"""What a reader made of one item's CoT and of what it was changed into, and how it is kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from markov_cot.evaluation.item_log import Layout
from markov_cot.evaluation.records import rounded


@dataclass(frozen=True, slots=True)
class Reading:
    """What a reader made of one CoT."""

    logprob: float
    """Of the true answer, nats per token."""
    right: bool | None
    """Whether it gave the true answer; None where answers are not given (continuations)."""
    vote: str
    """The answer that was read out of what it wrote, in a form in which equal ones are equal."""


@dataclass(frozen=True, slots=True)
class ItemReadings:
    """What a reader made of one item's CoTs."""

    index: int
    cot: tuple[int, ...]
    """Unchanged."""
    original: Reading
    changed: Mapping[str, Mapping[float, Reading]]
    """By test and share."""
    prefixes: tuple[float, ...]
    """Log-prob of the true answer (nats per token) after each tenth of the CoT, none of it first."""
    occluded: tuple[float, ...]
    """The same without each of the CoT's tokens; empty where it was not asked for."""

    def effects(self, test: str) -> dict[float, float]:
        """Return by share how much less probable (nats per answer token) a test's changes make the answer."""
        return {share: self.original.logprob - reading.logprob for share, reading in self.changed[test].items()}


@dataclass(frozen=True, slots=True)
class ItemCot:
    """An item's CoT as it was written."""

    index: int
    cot: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ItemScores:
    """The log-prob of an item's answer after one CoT, by several readers in turn; nats per token."""

    index: int
    logprobs: tuple[float, ...]


def _scores_to_json(row: ItemScores) -> dict[str, Any]:
    return {"index": row.index, "logprobs": list(row.logprobs)}


def _scores_from_json(row: Any) -> ItemScores:
    return ItemScores(int(row["index"]), tuple(map(float, row["logprobs"])))


def _cot_to_json(row: ItemCot) -> dict[str, Any]:
    return {"index": row.index, "cot": list(row.cot)}


def _cot_from_json(row: Any) -> ItemCot:
    return ItemCot(int(row["index"]), tuple(map(int, row["cot"])))


def _to_json(row: ItemReadings) -> dict[str, Any]:
    return {
        "index": row.index,
        "cot": list(row.cot),
        "original": _reading_to_json(row.original),
        "changed": {
            test: {repr(share): _reading_to_json(reading) for share, reading in readings.items()}
            for test, readings in row.changed.items()
        },
        "prefixes": list(map(rounded, row.prefixes)),
        "occluded": list(map(rounded, row.occluded)),
    }


def _from_json(row: Any) -> ItemReadings:
    return ItemReadings(
        int(row["index"]),
        tuple(map(int, row["cot"])),
        _reading_from_json(row["original"]),
        {
            str(test): {float(share): _reading_from_json(reading) for share, reading in readings.items()}
            for test, readings in row["changed"].items()
        },
        tuple(map(float, row["prefixes"])),
        tuple(map(float, row["occluded"])),
    )


def _reading_to_json(reading: Reading) -> list[Any]:
    return [rounded(reading.logprob), reading.right, reading.vote]


def _reading_from_json(row: Any) -> Reading:
    logprob, right, vote = row
    return Reading(float(logprob), None if right is None else bool(right), str(vote))


READINGS = Layout(_to_json, _from_json)
COTS = Layout(_cot_to_json, _cot_from_json)
SCORES = Layout(_scores_to_json, _scores_from_json)
