"""The outcome of one evaluation: every metric with its error bar, by group where there are groups, and comparisons."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from markov_cot.evaluation import item_metrics as scoring
from markov_cot.evaluation.item_metrics import Key
from markov_cot.evaluation.preference import (
    BOTH,
    CONSISTENCY,
    LOG_LOSS,
    MAJORITY,
    SWAPPED,
    Constants,
    OtherOrder,
    comparison_scores,
    constants,
    set_scores,
)
from markov_cot.evaluation.records import Item, Record
from markov_cot.evaluation.statistics import (
    Z_95,
    PairedComparison,
    compare_paired,
    mean_and_stderr,
    wilson_interval,
)
from markov_cot.grading.extractors import PRIMARY, Extractor
from markov_cot.grading.kinds import Kind

_SHARES = (
    scoring.ACCURACY,
    "pass@",
    "maj@",
    "acc",
    scoring.ANSWER_IN_COT,
    MAJORITY,
    SWAPPED,
    BOTH,
    CONSISTENCY,
)
_NOT_COMPARED = (scoring.BASELINE, scoring.INFORMATIVENESS, MAJORITY)


@dataclass(frozen=True, slots=True)
class Measure:
    """A metric over n items. All but `n` and `nan` are None when a value is NaN, which is never averaged away."""

    n: int
    mean: float | None
    stderr: float | None = None
    """Sample standard deviation (ddof 1) of the items' values / sqrt(n); None for n = 1."""
    low: float | None = None
    high: float | None = None
    """95 % interval: Wilson's for shares, mean +- 1.96 stderr for log-probs and others."""
    nan: int = 0
    """Items whose value is NaN."""


@dataclass(frozen=True, slots=True)
class TaskMetrics:
    """Metrics of one policy on one dataset."""

    kind: Kind
    measures: dict[Key, Measure]
    invalid: dict[str, int]
    """By extractor: samples in which it found no answer."""
    scores: dict[Key, list[float]]
    """Each item's value, in the order of the items."""
    groups: dict[str, dict[Key, Measure]] = field(default_factory=dict)
    """Shares by subject (MMLU's)."""
    macro: dict[Key, Measure] = field(default_factory=dict)
    """Unweighted means over the subjects; `n` counts them."""
    constants: Constants | None = None
    """Of comparisons: what constant answers are worth."""

    @property
    def primary(self) -> Key:
        """Key of the one number this outcome is summed up by."""
        if self.kind == "continuation":
            return scoring.PER_TOKEN
        accuracies = [key for key in self.measures if key.startswith(f"{scoring.ACCURACY},")]
        preferred = f"{scoring.ACCURACY},{PRIMARY[self.kind].name}"
        return preferred if preferred in accuracies else accuracies[0]


def outcome(
    items: Sequence[Item],
    records: Sequence[Record],
    extractors: Sequence[Extractor],
    reduction: str,
    other: OtherOrder | None = None,
) -> TaskMetrics:
    """Metrics of `records` of `items`, which are at least one and of one kind; of comparisons in `other` order, too."""
    scores = scoring.item_scores(items, records, extractors, reduction)
    if other:
        scores |= comparison_scores(items, records, other, extractors)
    measures = {key: measure(key, values) for key, values in scores.items()}
    kind = items[0].problem.kind
    if kind == "continuation":
        value = scoring.perplexity(records, reduction)
        nan = measures[scoring.PER_TOKEN].nan
        measures[scoring.PERPLEXITY] = Measure(len(items), None if nan else value, nan=nan)
    if other:
        nan = measures[LOG_LOSS].nan
        of_set = set_scores(items, records, extractors)
        measures |= {key: Measure(len(items), value, nan=nan * (value is None)) for key, value in of_set.items()}
    invalid = {
        extractor.name: sum(
            scoring.grade(item, record, extractor).predicted.count(None)
            for item, record in zip(items, records, strict=True)
        )
        for extractor in extractors
    }
    groups = _by_group(items, scores)
    found = TaskMetrics(kind, measures, invalid, scores, groups, _macro(groups))
    return replace(found, constants=constants(items, other, scores[found.primary])) if other else found


def measure(key: Key, values: Sequence[float]) -> Measure:
    """Mean and error bar of a metric's values."""
    n = len(values)
    if nan := sum(map(math.isnan, values)):
        return Measure(n, None, nan=nan)
    mean, stderr = mean_and_stderr(values)
    if key.startswith(_SHARES):
        return Measure(n, mean, stderr, *wilson_interval(min(math.fsum(values), n), n))
    if stderr is None:
        return Measure(n, mean)
    return Measure(n, mean, stderr, mean - Z_95 * stderr, mean + Z_95 * stderr)


def compare(reference: TaskMetrics, other: TaskMetrics) -> dict[Key, PairedComparison]:
    """`other` minus `reference` on the same items, for every metric both have and that is not NaN.

    The baseline is the same for both, so informativeness differs by what the log-prob differs by and is left out.
    """
    return {
        key: compare_paired(reference.scores[key], values)
        for key, values in other.scores.items()
        if key in reference.scores
        and key not in _NOT_COMPARED
        and not any(map(math.isnan, [*values, *reference.scores[key]]))
    }


def _by_group(items: Sequence[Item], scores: dict[Key, list[float]]) -> dict[str, dict[Key, Measure]]:
    members: dict[str, list[int]] = {}
    for i, item in enumerate(items):
        if item.problem.subject:
            members.setdefault(item.problem.subject, []).append(i)
    shares = [key for key in scores if key.startswith(_SHARES)]
    return {
        group: {key: measure(key, [scores[key][i] for i in at]) for key in shares}
        for group, at in sorted(members.items())
    }


def _macro(groups: dict[str, dict[Key, Measure]]) -> dict[Key, Measure]:
    """Every group weighs the same. stderr = sqrt(sum of the groups' stderr squared) / their number."""
    return {key: _unweighted([measures[key] for measures in groups.values()]) for key in _keys(groups)}


def _keys(groups: dict[str, dict[Key, Measure]]) -> list[Key]:
    return list(next(iter(groups.values()))) if groups else []


def _unweighted(measures: Sequence[Measure]) -> Measure:
    count = len(measures)
    means = [each.mean for each in measures if each.mean is not None]
    if len(means) < count:
        return Measure(count, None, nan=count - len(means))
    stderrs = [each.stderr for each in measures if each.stderr is not None]
    stderr = math.hypot(*stderrs) / count if len(stderrs) == count else None
    return Measure(count, math.fsum(means) / count, stderr)
