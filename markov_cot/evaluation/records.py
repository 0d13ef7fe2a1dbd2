"""What an evaluation keeps of each item: everything the model produced, nothing that can be computed from it.

So extractors and metrics may change without a model having to be run again. Log-probabilities are in nats, rounded to
a millionth, and NaN where the model gave NaN.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from markov_cot.data.problem import Problem

DECIMALS = 6


@dataclass(frozen=True, slots=True)
class Item:
    """A problem and its position in its split, which names it in every file."""

    index: int
    problem: Problem


@dataclass(frozen=True, slots=True)
class Likelihood:
    """How probable a choice is as the answer."""

    logprob: float
    """Summed over its tokens, without a newline: lm-evaluation-harness's log-likelihood."""
    greedy: bool
    """Whether greedy decoding would write it."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One CoT and what was answered from it."""

    cot: str
    answer: str
    """Greedy; empty for continuations."""
    answer_logprob: float
    """Of the true answer; per token if `reward.reduction` is "mean"."""
    repetition: float
    choices: tuple[Likelihood, ...] = ()
    """Of each choice's text."""
    letters: tuple[Likelihood, ...] = ()
    """Of each choice's letter."""
    cot_ids: tuple[int, ...] = ()
    """The CoT in its writer's tokens."""


@dataclass(frozen=True, slots=True)
class Record:
    """One item's outcome."""

    index: int
    answer_tokens: int
    """Tokens of the true answer, its newline included."""
    baseline_logprob: float
    """The readers' log-prob of the true answer after the base's own greedy CoT; reduced as `answer_logprob`."""
    samples: tuple[Sample, ...]


def to_json(record: Record) -> dict[str, Any]:
    """As JSON holds it: NaN becomes null."""
    plain: dict[str, Any] = _without_nan(asdict(record))
    return plain


def from_json(row: Any) -> Record:
    """The record that `to_json` made `row` of. Raises `KeyError`, `TypeError` or `ValueError` for anything else."""
    samples = tuple(
        Sample(
            str(sample["cot"]),
            str(sample["answer"]),
            _number(sample["answer_logprob"]),
            _number(sample["repetition"]),
            _likelihoods(sample["choices"]),
            _likelihoods(sample["letters"]),
            tuple(map(int, sample["cot_ids"])),
        )
        for sample in row["samples"]
    )
    return Record(int(row["index"]), int(row["answer_tokens"]), _number(row["baseline_logprob"]), samples)


def rounded(value: float) -> float:
    """As records hold it, so that a value read back is the value written."""
    return round(float(value), DECIMALS)


def _likelihoods(rows: Any) -> tuple[Likelihood, ...]:
    return tuple(Likelihood(_number(row["logprob"]), bool(row["greedy"])) for row in rows)


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(inner) for inner in value]
    return None if isinstance(value, float) and math.isnan(value) else value
