"""Held-out results: how a run ended, its best validation, and what several seeds of one setting come to."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markov_cot.evaluation.runs import MEASURES, held_out_key
from markov_cot.utils.errors import UserError

ACCURACY, LOGPROB = MEASURES


@dataclass(frozen=True, slots=True)
class Held:
    """A result on held-out problems."""

    measure: str
    """"accuracy", or of continuations "answer_logprob" (nats)."""
    value: float
    low: float | None
    """Ends of accuracy's Wilson 95 % interval; None for log-probs, whose spread is not kept."""
    high: float | None
    n: int | None = None
    """Problems; None where the log does not say."""
    f1: float | None = None
    """Mean token F1, where answers are texts."""
    step: int | None = None
    """Of the actor; None for the base."""


@dataclass(frozen=True, slots=True)
class Ending:
    """The table at the end of a run: base and trained actor on the same problems."""

    step: int
    best_step: int | None
    """Of the checkpoint `best`, by whatever the run chooses it by; None where no validation chose one."""
    base: Held
    trained: Held


@dataclass(frozen=True, slots=True)
class Pooled:
    """One result over the seeds of a setting."""

    measure: str
    seeds: tuple[int, ...]
    mean: float
    deviation: float | None
    """Sample standard deviation (n - 1) over the seeds; None for one seed."""
    lowest: float
    highest: float


def read_ending(path: Path) -> Ending | None:
    """Return how a run ended by its summary.json; None where there is none. Raises `UserError` for a damaged one."""
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        step, best = int(found["step"]), found["best_step"]
        return Ending(
            step, None if best is None else int(best), _held(found["base"], None), _held(found["trained"], step)
        )
    except (ValueError, TypeError, LookupError, RecursionError):
        raise UserError(f"{path}: is damaged; resume the run, which writes it again") from None


def _held(score: Mapping[str, Any], step: int | None) -> Held:
    n, f1 = int(score["n"]), score.get("f1")
    f1 = None if f1 is None else float(f1)
    if score[ACCURACY] is None:
        return Held(LOGPROB, float(score[LOGPROB]), None, None, n, f1, step)
    return Held(ACCURACY, float(score[ACCURACY]), float(score["low"]), float(score["high"]), n, f1, step)


def best_validation(log: Mapping[str, Sequence[float]]) -> Held | None:
    """Return the best held-out result after step 0, the earliest of equals; None where a log has none."""
    key = held_out_key(log)
    if key is None:
        return None
    rows = [i for i, step in enumerate(log["step"]) if step > 0 and math.isfinite(log[key][i])]
    if not rows:
        return None
    best = max(rows, key=lambda i: log[key][i])
    low, high = (_finite(log.get(f"{key}_{end}", {}), best) for end in ("low", "high"))
    return Held(key.rsplit("/", 1)[1], log[key][best], low, high, step=int(log["step"][best]))


def _finite(column: Sequence[float] | Mapping[int, float], row: int) -> float | None:
    return column[row] if column and math.isfinite(column[row]) else None


def pool(results: Mapping[int, Held]) -> Pooled | None:
    """Return the results of a setting, by seed, together: what they are, and no interval.

    The spread of a few seeds is all that is known of another one. None without results that are numbers, or where they
    are not of one measure.

    >>> both = pool({0: Held("accuracy", 0.5, 0.4, 0.6), 1: Held("accuracy", 0.75, 0.6, 0.8)})
    >>> both.mean, round(both.deviation, 4), both.lowest, both.highest  # 0.25 / sqrt(2)
    (0.625, 0.1768, 0.5, 0.75)
    """
    values = {seed: result.value for seed, result in results.items() if math.isfinite(result.value)}
    measures = {results[seed].measure for seed in values}
    if len(measures) != 1:
        return None
    deviation = statistics.stdev(values.values()) if len(values) > 1 else None
    mean = statistics.fmean(values.values())
    return Pooled(measures.pop(), tuple(values), mean, deviation, min(values.values()), max(values.values()))
