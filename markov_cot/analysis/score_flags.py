"""Reported scores that cannot be what they are taken for: shares that are no k/n, errors that do not fit their n."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from markov_cot.analysis.score_files import TaskScores
from markov_cot.analysis.score_tables import Reported

_SLACK = 0.01
"""Of a stderr: whether it is divided by n or n - 1, which makes half a percent at n = 100."""
_ROUNDING = 1e-9
_MOST_SIZES = 1000
"""Sizes that a stderr may imply for it to say anything about k/n."""


@dataclass(frozen=True, slots=True)
class Flag:
    """What is wrong with a reported score."""

    side: str
    task: str
    metric: str
    reason: str


def flags_of(side: str, name: str, task: TaskScores, shares: Sequence[str]) -> Iterator[Flag]:
    """Yield what is wrong with the totals of a task; `shares` are its metrics that are shares of right answers."""
    for metric in shares:
        reported = task.reported.get(metric)
        if reported is None:
            continue
        if task.items:
            scores = list(task.items.scores[metric].values())
            if reason := against_items(reported, math.fsum(scores) / len(scores), len(scores)):
                yield Flag(side, name, metric, reason)
            if not set(scores) <= {0.0, 1.0}:
                continue
        elif metric.startswith("f1,") or task.is_group:
            continue  # means of parts, whose error is not a share's
        for reason in faults(reported):
            yield Flag(side, name, metric, reason)


def against_items(reported: Reported, mean: float, n: int) -> str | None:
    """Return how a total differs from its items, or None."""
    if reported.n is not None and reported.n != n:
        return f"is reported of {reported.n:,} items, and there are {n:,} samples"
    if abs(reported.score - mean) > reported.half_unit + _ROUNDING:
        return f"is reported as {shown(reported)}, and its samples give {mean:.4f}"
    return None


def faults(reported: Reported) -> Iterator[str]:
    """Yield why a share cannot be one of its items: it is no k/n, or its stderr is none of n items."""
    if not 0 <= reported.score <= 1:
        yield f"{reported.score:g} is no share"
        return
    if reported.n is not None:
        if (near := not_of(reported, reported.n)) is not None:
            yield f"{shown(reported)} is no k/{reported.n:,}: {near}"
        if reported.stderr is not None and not _fits(reported, reported.n):
            right = _stderr(reported.score, reported.n)
            yield (
                f"a stderr of {_percent(reported.stderr, reported.stderr_half_unit)} does not fit n = {reported.n:,}, "
                f"where it is {100 * right:.2f} %" + _implied_text(reported)
            )
        return
    sizes = implied_sizes(reported)
    if sizes and all(not_of(reported, n) is not None for n in sizes):
        near = not_of(reported, sizes[0])
        yield f"{shown(reported)} is no k/n at the n that its stderr implies, {_range(sizes)}: at {sizes[0]:,}, {near}"


def not_of(reported: Reported, n: int) -> str | None:
    """Return the nearest possible shares of n items where a score is none of them; None where it is one."""
    room = reported.half_unit + _ROUNDING
    below = min(math.floor(reported.score * n), n)
    near = [k for k in (below, below + 1) if 0 <= k <= n]
    if any(abs(k / n - reported.score) <= room for k in near):
        return None
    return " and ".join(f"{k}/{n:,} is {100 * k / n:.2f} %" for k in near)


def implied_sizes(reported: Reported) -> range:
    """Return the n at which a share has such a stderr, sqrt(p (1 - p) / (n - 1)), as far as rounding leaves it open.

    Empty without a stderr, and where it leaves open more than a thousand.
    """
    if not reported.stderr or reported.stderr <= reported.stderr_half_unit:
        return range(0)
    ends = (reported.score - reported.half_unit, reported.score + reported.half_unit)
    spreads = [p * (1 - p) for p in ends]
    widest = 0.25 if ends[0] <= 0.5 <= ends[1] else max(spreads)
    # Divided by n or by n - 1.
    low = min(spreads) / (reported.stderr + reported.stderr_half_unit) ** 2
    high = widest / (reported.stderr - reported.stderr_half_unit) ** 2 + 1
    sizes = range(max(2, math.ceil(low)), math.floor(high) + 1)
    return sizes if len(sizes) <= _MOST_SIZES else range(0)


def shown(reported: Reported) -> str:
    """A score with the digits that it has."""
    return _percent(reported.score, reported.half_unit)


def _fits(reported: Reported, n: int) -> bool:
    if n < 2 or reported.stderr is None:
        return reported.stderr is None
    right = _stderr(reported.score, n)
    return abs(reported.stderr - right) <= reported.stderr_half_unit + _SLACK * right + _ROUNDING


def _stderr(share: float, n: int) -> float:
    return math.sqrt(share * (1 - share) / (n - 1)) if n > 1 else math.nan


def _implied_text(reported: Reported) -> str:
    sizes = implied_sizes(reported)
    return f"; it implies an n of {_range(sizes)}" if sizes else ""


def _range(sizes: range) -> str:
    return f"{sizes[0]:,}" if len(sizes) == 1 else f"{sizes[0]:,} to {sizes[-1]:,}"


def _percent(value: float, half_unit: float) -> str:
    digits = max(0, min(4, round(-math.log10(200 * half_unit)))) if half_unit else 2
    return f"{100 * value:.{digits}f} %"
