"""Comparisons of responses, evaluated in both orders: what a judge that looks at the place alone would get right, too.

A verdict is what the answer says (by an extractor), or the letter that the reader finds most probable. Its
probabilities are those of the choices' letters after the CoT, scaled to add up to 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markov_cot.data.comparison import frequencies, other_letter
from markov_cot.data.splits import Splits
from markov_cot.evaluation.classification import BINS, calibration_error, log_loss, macro_f1, probabilities
from markov_cot.evaluation.item_metrics import ACCURACY, Graded, Key, grade
from markov_cot.evaluation.records import Item, Record, Sample
from markov_cot.evaluation.statistics import PairedComparison, compare_paired
from markov_cot.grading.extractors import Extractor
from markov_cot.grading.kinds import LETTERS

MAJORITY = "majority,none"
SWAPPED, BOTH, CONSISTENCY = f"{ACCURACY}_swapped", f"{ACCURACY}_both", "position_consistency"
LOG_LOSS, ECE, MACRO_F1 = "log_loss,letter", "ece,letter", "macro_f1"


@dataclass(frozen=True, slots=True)
class Labels:
    """How often each answer is the right one: all that is known before anything is read."""

    shares: dict[str, float]
    """By letter."""
    n: int
    split: str
    """In which they were counted."""

    @property
    def majority(self) -> str:
        """The commonest letter, the first of equals."""
        return max(self.shares, key=lambda letter: self.shares[letter])


@dataclass(frozen=True)
class OtherOrder:
    """The same comparisons with the responses swapped, one for each item."""

    items: Sequence[Item]
    records: Sequence[Record]
    labels: Labels


@dataclass(frozen=True, slots=True)
class Constants:
    """What answers and probabilities that do not depend on the item are worth on the same items."""

    majority: str
    """The letter of the commonest label."""
    label_shares: dict[str, float]
    labels: int
    """How many they were counted in..."""
    counted_in: str
    """...and of which split."""
    above_majority: PairedComparison
    """Accuracy less that of always giving the majority's letter."""
    uniform_log_loss: float
    """Mean of ln(number of choices)."""
    shares_log_loss: float | None
    """Of always giving the labels' shares as probabilities; None where an item's true label was never counted."""
    ece_bins: int = BINS

    def notes(self) -> list[str]:
        """Sentences to be read beside the numbers."""
        gap, share = self.above_majority, self.label_shares[self.majority]
        p_value = "" if gap.p_value is None else f", p = {gap.p_value:.2g}"
        shares = "" if self.shares_log_loss is None else f"; of those labels' shares: {self.shares_log_loss:.4f}"
        return [
            f"Accuracy less that of always answering {self.majority}, the commonest of {self.labels:,} labels of "
            f"{self.counted_in} ({share:.1%}): {gap.difference:+.3f} [{gap.low:+.3f}, {gap.high:+.3f}]{p_value}.",
            f"Log loss of uniform probabilities: {self.uniform_log_loss:.4f}{shares}. "
            f"ECE is over {self.ece_bins} equal bins.",
        ]


def labels_of(splits: Splits, evaluated: str) -> Labels:
    """Return the labels of the training split, or where there is none those of the split that is evaluated."""
    split = "train" if splits.train else evaluated
    problems = {"train": splits.train, "validation": splits.validation, "test": splits.test}[split]
    return Labels(frequencies(problems), len(problems), split)


def comparison_scores(
    items: Sequence[Item], records: Sequence[Record], other: OtherOrder, extractors: Sequence[Extractor]
) -> dict[Key, list[float]]:
    """Return each metric's value for each item, the mean over its samples; NaN where the model gave NaN.

    A sample is paired with that of the same number in the other order.
    """
    majority = other.labels.majority
    scores = {MAJORITY: [float(item.problem.answer == majority) for item in items]}
    for extractor in extractors:
        ours = [grade(*pair, extractor) for pair in zip(items, records, strict=True)]
        theirs = [grade(*pair, extractor) for pair in zip(other.items, other.records, strict=True)]
        pairs = list(zip(ours, theirs, strict=True))
        scores[f"{SWAPPED},{extractor.name}"] = [_mean(each.correct) for each in theirs]
        scores[f"{BOTH},{extractor.name}"] = [
            _mean([a and b for a, b in zip(one.correct, two.correct, strict=True)]) for one, two in pairs
        ]
        scores[f"{CONSISTENCY},{extractor.name}"] = [_consistency(one, two) for one, two in pairs]
    scores[LOG_LOSS] = [
        _mean([log_loss(_letters(sample), LETTERS.index(item.problem.answer)) for sample in record.samples])
        for item, record in zip(items, records, strict=True)
    ]
    return scores


def set_scores(
    items: Sequence[Item], records: Sequence[Record], extractors: Sequence[Extractor]
) -> dict[Key, float | None]:
    """Return the metrics that are of all samples of all items together; None where the model gave NaN."""
    found: dict[Key, float | None] = {}
    for extractor in extractors:
        graded = [grade(*pair, extractor) for pair in zip(items, records, strict=True)]
        golds = [item.problem.answer for item, each in zip(items, graded, strict=True) for _ in each.predicted]
        found[f"{MACRO_F1},{extractor.name}"] = macro_f1(golds, [p for each in graded for p in each.predicted])
    confidences, right = [], []
    for item, record in zip(items, records, strict=True):
        for sample in record.samples:
            chances = probabilities(_letters(sample))
            confidences.append(max(chances))
            right.append(chances.index(max(chances)) == LETTERS.index(item.problem.answer))
    found[ECE] = None if any(map(math.isnan, confidences)) else calibration_error(confidences, right)
    return found


def constants(items: Sequence[Item], other: OtherOrder, accuracy: Sequence[float]) -> Constants:
    """Return what constant answers are worth beside `accuracy`, which has each item's value."""
    labels = other.labels
    known = [labels.shares.get(item.problem.answer, 0.0) for item in items]
    of_majority = [float(item.problem.answer == labels.majority) for item in items]
    return Constants(
        majority=labels.majority,
        label_shares=labels.shares,
        labels=labels.n,
        counted_in=labels.split,
        above_majority=compare_paired(of_majority, accuracy),
        uniform_log_loss=_mean([math.log(len(item.problem.choices)) for item in items]),
        shares_log_loss=-_mean(list(map(math.log, known))) if all(known) else None,
    )


def _consistency(one: Graded, two: Graded) -> float:
    """Share of the samples whose verdict on the same response is the same. Two invalid answers are none."""
    pairs = zip(one.predicted, two.predicted, strict=True)
    return _mean([first is not None and second == other_letter(first) for first, second in pairs])


def _letters(sample: Sample) -> list[float]:
    return [letter.logprob for letter in sample.letters]


def _mean(values: Sequence[float | int]) -> float:
    return math.fsum(values) / len(values)
