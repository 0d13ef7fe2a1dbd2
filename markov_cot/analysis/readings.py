"""What a reader made of one item's CoT and of what it was changed into, and how it is kept.

Kept is what the reader gave, not what can be read out of it, so that extractors may change.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from markov_cot.data.problem import Problem
from markov_cot.evaluation.item_log import Layout
from markov_cot.evaluation.records import rounded
from markov_cot.grading.extractors import Extractor, grade
from markov_cot.rewards.readers import Readers
from markov_cot.utils.errors import UserError


@dataclass(frozen=True, slots=True)
class Reading:
    """What a reader made of one CoT."""

    logprob: float
    """Of the true answer, nats per token."""
    answer: str
    """What it answered; empty for continuations, whose answers are scored, not written."""
    right: bool | None = None
    """Whether that is the true answer; None for continuations."""
    vote: str | None = None
    """The answer in a form in which equal ones are equal; None where none can be read out of it."""


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

    def graded(self, problem: Problem, extractor: Extractor | None) -> ItemReadings:
        """Return the same with every answer graded; without an extractor, as of continuations, as they are."""
        if extractor is None:
            return self
        changed = {
            test: {share: _graded(reading, problem, extractor) for share, reading in readings.items()}
            for test, readings in self.changed.items()
        }
        return replace(self, original=_graded(self.original, problem, extractor), changed=changed)


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


def finite(logprobs: Iterable[float], readers: Readers) -> list[float]:
    """Return log-probs as they are kept. Raises `UserError` when one is not finite."""
    values = list(map(rounded, logprobs))
    if bad := sum(not math.isfinite(value) for value in values):
        names = ", ".join(reader.name for reader in readers.readers)
        raise UserError(
            f"reader {names}: finds no finite log-prob (NaN or infinity) of the answer after {bad} of {len(values)} "
            "CoTs; check its weights, or read in float32 (--set model.dtype=float32)"
        )
    return values


def _graded(reading: Reading, problem: Problem, extractor: Extractor) -> Reading:
    predicted, right = grade(extractor, reading.answer, problem.accepted, problem.choices)
    return replace(reading, right=right, vote=None if predicted is None else repr(extractor.vote(predicted)))


def _to_json(row: ItemReadings) -> dict[str, Any]:
    return {
        "index": row.index,
        "cot": list(row.cot),
        "original": [row.original.logprob, row.original.answer],
        "changed": {
            test: {repr(share): [reading.logprob, reading.answer] for share, reading in readings.items()}
            for test, readings in row.changed.items()
        },
        "prefixes": list(row.prefixes),
        "occluded": list(row.occluded),
    }


def _from_json(row: Any) -> ItemReadings:
    return ItemReadings(
        int(row["index"]),
        tuple(map(int, row["cot"])),
        _reading(row["original"]),
        {
            str(test): {float(share): _reading(reading) for share, reading in readings.items()}
            for test, readings in row["changed"].items()
        },
        tuple(map(float, row["prefixes"])),
        tuple(map(float, row["occluded"])),
    )


def _reading(row: Any) -> Reading:
    logprob, answer = row
    return Reading(float(logprob), str(answer))


READINGS = Layout(_to_json, _from_json)
COTS: Layout[ItemCot] = Layout(
    lambda row: {"index": row.index, "cot": list(row.cot)},
    lambda row: ItemCot(int(row["index"]), tuple(map(int, row["cot"]))),
)
SCORES: Layout[ItemScores] = Layout(
    lambda row: {"index": row.index, "logprobs": list(row.logprobs)},
    lambda row: ItemScores(int(row["index"]), tuple(map(float, row["logprobs"]))),
)
