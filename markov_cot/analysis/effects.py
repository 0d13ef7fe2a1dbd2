"""From readings of items to effects with their intervals, and to the difference between two models' effects.

Shapes: n items. Units: effects are nats per token of the answer; drops of accuracy are shares.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from markov_cot.analysis.changes import EARLY
from markov_cot.analysis.perturbations import SEVERITIES
from markov_cot.analysis.readings import ItemReadings, Reading
from markov_cot.evaluation.statistics import Estimate, estimate, holm, sign_test_p_value

GRID = tuple(severity / 100 for severity in SEVERITIES)


@dataclass(frozen=True, slots=True)
class Level:
    """What a test found at one share of change, or over all of them."""

    effect: Estimate
    accuracy_drop: Estimate | None
    """Share right after the CoT less the share right after the changed one; None for continuations."""
    same_answer: float | None
    """Share of items with the same answer after both; None for continuations."""


@dataclass(frozen=True)
class TestOutcome:
    """What one test found."""

    levels: Mapping[float, Level]
    """By share."""
    overall: Level
    """Of each item's mean over the shares."""
    values: Mapping[int, Mapping[float, float]]
    """By item and share, the effect."""
    area_over_curve: Estimate | None = None
    """Of early answering."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One model's effect less the other's on the same items."""

    estimate: Estimate
    p_value: float
    """Exact two-sided sign test over the items."""
    p_holm: float = field(default=1.0)
    """Adjusted for the number of tests."""


@dataclass(frozen=True)
class Contrast:
    """The differences of one test."""

    levels: Mapping[float, Estimate]
    overall: Difference


def outcome(items: Sequence[ItemReadings], test: str) -> TestOutcome | None:
    """Return what a test found on the items it applies to; None where it applies to none."""
    applied = [item for item in items if test in item.changed]
    if not applied:
        return None
    effects = {item.index: _on_grid(test, item.effects(test), 0.0) for item in applied}
    drops = same = None
    if applied[0].original.right is not None:
        drops = _compared(applied, test, lambda own, other: float(bool(own.right)) - float(bool(other.right)), 0.0)
        same = _compared(applied, test, lambda own, other: float(own.vote == other.vote), 1.0)
    shares = list(next(iter(effects.values())))
    levels = {share: _level([_at(each, share) for each in (effects, drops, same)]) for share in shares}
    overall = _level([_means(each) for each in (effects, drops, same)])
    area = None
    if test == EARLY and same is not None:
        area = estimate([area_over_curve(item) for item in applied])
    return TestOutcome(levels, overall, effects, area)


def area_over_curve(item: ItemReadings) -> float:
    """Return 1 - the area under an item's curve of same answers (1 or 0) over the share of its steps that are read.

    By the trapezoid rule on [0, 1], where Lanham et al. (arXiv 2307.13702), whose measure it is, state none.
    """
    same = {1 - share: float(reading.vote == item.original.vote) for share, reading in item.changed[EARLY].items()}
    points = sorted({**same, 1.0: 1.0}.items())
    shares, values = zip(*points, strict=True)
    return 1.0 - float(np.trapezoid(values, shares))


def contrasts(own: Mapping[str, TestOutcome | None], other: Mapping[str, TestOutcome | None]) -> dict[str, Contrast]:
    """Return, for each test that applies to both, own effects less the other's, paired by item, and Holm's p-values."""
    found: dict[str, Contrast] = {}
    for test, ours in own.items():
        theirs = other.get(test)
        if ours is None or theirs is None or not (common := sorted(ours.values.keys() & theirs.values.keys())):
            continue
        differences = {
            index: {share: value - theirs.values[index][share] for share, value in ours.values[index].items()}
            for index in common
        }
        overall = [_mean(each) for each in differences.values()]
        levels = {share: estimate([each[share] for each in differences.values()]) for share in ours.levels}
        found[test] = Contrast(levels, Difference(estimate(overall), sign_test_p_value(overall)))
    adjusted = holm({test: contrast.overall.p_value for test, contrast in found.items()})
    return {
        test: Contrast(each.levels, Difference(each.overall.estimate, each.overall.p_value, adjusted[test]))
        for test, each in found.items()
    }


def prefix_curve(items: Sequence[ItemReadings]) -> list[Estimate]:
    """Return the log-prob of the true answer after 0, 1, ... of the CoT's equal parts."""
    return [estimate(values) for values in zip(*(item.prefixes for item in items), strict=True)]


ByItem = Mapping[int, Mapping[float, float]]


def _compared(
    items: Sequence[ItemReadings], test: str, compare: Callable[[Reading, Reading], float], unchanged: float
) -> ByItem:
    """Something of the answers after the CoT and after the changed ones."""
    return {
        item.index: _on_grid(
            test, {share: compare(item.original, reading) for share, reading in item.changed[test].items()}, unchanged
        )
        for item in items
    }


def _on_grid(test: str, values: Mapping[float, float], unchanged: float) -> Mapping[float, float]:
    """Early answering has as many shares as a CoT has steps: its curve, `unchanged` at 0, is read at the severities."""
    if test != EARLY:
        return {share: value for share, value in values.items() if share > 0}
    shares, heights = zip(*sorted({**values, 0.0: unchanged}.items()), strict=True)
    return {share: float(np.interp(share, shares, heights)) for share in GRID}


def _level(columns: Sequence[Sequence[float] | None]) -> Level:
    effects, drops, same = columns
    assert effects is not None
    return Level(
        estimate(effects),
        None if drops is None else estimate(drops),
        None if same is None else sum(same) / len(same),
    )


def _at(by_item: ByItem | None, share: float) -> list[float] | None:
    return None if by_item is None else [values[share] for values in by_item.values()]


def _means(by_item: ByItem | None) -> list[float] | None:
    return None if by_item is None else [_mean(values) for values in by_item.values()]


def _mean(values: Mapping[float, float]) -> float:
    return sum(values.values()) / len(values)
