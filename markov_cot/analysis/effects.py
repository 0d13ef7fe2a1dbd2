"""From readings of items to effects with their intervals, and to the difference between two models' effects.

Shapes: n items. Units: effects are nats per token of the answer; drops of accuracy are shares.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from markov_cot.analysis.changes import EARLY
from markov_cot.analysis.perturbations import FAMILIES, SEVERITIES
from markov_cot.analysis.readings import ItemReadings, Reading
from markov_cot.evaluation.statistics import Estimate, estimate, holm, sign_test_p_value

GRID = tuple(severity / 100 for severity in SEVERITIES)

ByItem = Mapping[int, Mapping[float, float]]
"""By item and share."""


@dataclass(frozen=True, slots=True)
class Level:
    """What a test found at one share of change, or over all of them."""

    effect: Estimate
    accuracy_drop: Estimate | None
    """Share right after the CoT less the share right after the changed one; None for continuations."""
    same_answer: float | None
    """Share of items with the same answer, a readable one, after both; None for continuations."""


@dataclass(frozen=True)
class TestOutcome:
    """What one test found."""

    levels: Mapping[float, Level]
    """By share."""
    overall: Level
    """Of each item's mean over the shares."""
    effects: ByItem
    drops: ByItem | None
    area_over_curve: Estimate | None = None
    """Of early answering."""

    @property
    def unmoved(self) -> int:
        """How many CoTs the test had no effect on at any share, as where there is no digit to replace."""
        return sum(not any(of_item.values()) for of_item in self.effects.values())


@dataclass(frozen=True, slots=True)
class Difference:
    """One model's effect less the other's on the same items."""

    effect: Estimate
    accuracy_drop: Estimate | None
    p_value: float
    """Exact two-sided sign test of the effects over the items."""
    p_holm: float
    """Adjusted for the number of tests."""


@dataclass(frozen=True)
class Contrast:
    """The differences of one test."""

    levels: Mapping[float, Estimate]
    """Of the effects, by share."""
    overall: Difference


def outcome(items: Sequence[ItemReadings], test: str) -> TestOutcome | None:
    """Return what a test found on the items it applies to; None where it applies to none."""
    applied = [item for item in items if test in item.changed]
    if not applied:
        return None
    effects = {item.index: _on_grid(test, item.effects(test)) for item in applied}
    drops = same = None
    if applied[0].original.right is not None:
        drops = _compared(applied, test, lambda own, other: float(bool(own.right)) - float(bool(other.right)))
        same = _compared(applied, test, _same)
    area = estimate([area_over_curve(item) for item in applied]) if test == EARLY and same else None
    return _summed_up(effects, drops, same, area)


def over_families(outcomes: Mapping[str, TestOutcome | None]) -> TestOutcome | None:
    """Return the mean over the five families, by share and over all: an item's is the mean of its families' effects.

    None unless all of them were measured.
    """
    families = [found for family in FAMILIES if (found := outcomes.get(family))]
    if len(families) < len(FAMILIES):
        return None
    drops = [found.drops for found in families if found.drops is not None]
    return _summed_up(_mean_of([found.effects for found in families]), _mean_of(drops) if drops else None, None)


def area_over_curve(item: ItemReadings) -> float:
    """Return 1 - the area under an item's curve of same answers (1 or 0) over the share of its steps that are read.

    By the trapezoid rule on [0, 1], where Lanham et al. (arXiv 2307.13702), whose measure it is, state none.
    """
    same = {1 - share: _same(item.original, reading) for share, reading in item.changed[EARLY].items()}
    points = sorted({**same, 1.0: 1.0}.items())
    shares, values = zip(*points, strict=True)
    return 1.0 - float(np.trapezoid(values, shares))


def contrasts(own: Mapping[str, TestOutcome | None], other: Mapping[str, TestOutcome | None]) -> dict[str, Contrast]:
    """Return, for each test that applies to both, own effects less the other's, paired by item, and Holm's p-values."""
    found = {}
    for test, ours in own.items():
        theirs = other.get(test)
        if ours and theirs and ours.effects.keys() & theirs.effects.keys():
            found[test] = _contrast(ours, theirs)
    adjusted = holm({test: each.overall.p_value for test, each in found.items()})
    return {test: Contrast(each.levels, replace(each.overall, p_holm=adjusted[test])) for test, each in found.items()}


def prefix_curve(items: Sequence[ItemReadings]) -> list[Estimate]:
    """Return the log-prob of the true answer after 0, 1, ... of the CoT's equal parts."""
    return [estimate(values) for values in zip(*(item.prefixes for item in items), strict=True)]


def _contrast(own: TestOutcome, other: TestOutcome) -> Contrast:
    effects = _differences(own.effects, other.effects)
    drops = None if own.drops is None or other.drops is None else _differences(own.drops, other.drops)
    overall = _means(effects)
    return Contrast(
        {share: estimate(_at(effects, share)) for share in own.levels},
        Difference(
            estimate(overall),
            None if drops is None else estimate(_means(drops)),
            sign_test_p_value(overall),
            p_holm=1.0,
        ),
    )


def _differences(own: ByItem, other: ByItem) -> ByItem:
    return {
        index: {share: value - other[index][share] for share, value in own[index].items()}
        for index in sorted(own.keys() & other.keys())
    }


def _summed_up(effects: ByItem, drops: ByItem | None, same: ByItem | None, area: Estimate | None = None) -> TestOutcome:
    levels = {
        share: Level(
            estimate(_at(effects, share)),
            None if drops is None else estimate(_at(drops, share)),
            None if same is None else _mean(_at(same, share)),
        )
        for share in next(iter(effects.values()))
    }
    overall = Level(
        estimate(_means(effects)),
        None if drops is None else estimate(_means(drops)),
        None if same is None else _mean(_means(same)),
    )
    return TestOutcome(levels, overall, effects, drops, area)


def _compared(items: Sequence[ItemReadings], test: str, compare: Callable[[Reading, Reading], float]) -> ByItem:
    """Something of the answers after the CoT and after the changed ones."""
    return {
        item.index: _on_grid(
            test, {share: compare(item.original, reading) for share, reading in item.changed[test].items()}
        )
        for item in items
    }


def _same(own: Reading, other: Reading) -> float:
    return float(own.vote is not None and own.vote == other.vote)


def _on_grid(test: str, values: Mapping[float, float]) -> Mapping[float, float]:
    """Early answering has as many shares as a CoT has steps: at a severity counts the longest prefix that leaves out as
    much or more."""
    if test != EARLY:
        return {share: value for share, value in values.items() if share > 0}
    return {share: values[min(left for left in values if left >= share)] for share in GRID}


def _mean_of(families: Sequence[ByItem]) -> ByItem:
    common = set.intersection(*(set(each) for each in families))
    return {
        index: {share: _mean([each[index][share] for each in families]) for share in families[0][index]}
        for index in sorted(common)
    }


def _at(by_item: ByItem, share: float) -> list[float]:
    return [values[share] for values in by_item.values()]


def _means(by_item: ByItem) -> list[float]:
    return [_mean(list(values.values())) for values in by_item.values()]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
