"""Scores of a classifier over all items at once: how well each class is found, and how far its probabilities hold."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

BINS = 10


def macro_f1(golds: Sequence[str], predictions: Sequence[str | None]) -> float:
    """Return the unweighted mean over the classes of F1_c = 2 TP_c / (golds of c + predictions of c).

    The classes are those that occur among golds or predictions; None is no prediction and lowers the recall only.
    Raises `ValueError` unless the lengths agree and there is a gold.

    >>> round(macro_f1(["A", "A", "B", "C"], ["A", "B", "B", None]), 4)  # (2/3 + 2/3 + 0) / 3
    0.4444
    """
    if len(golds) != len(predictions) or not golds:
        raise ValueError(f"predictions need the same items as golds: {len(predictions)} and {len(golds)}")
    truth, guessed = Counter(golds), Counter(each for each in predictions if each is not None)
    found = Counter(gold for gold, guess in zip(golds, predictions, strict=True) if gold == guess)
    classes = truth.keys() | guessed.keys()
    return math.fsum(2 * found[each] / (truth[each] + guessed[each]) for each in classes) / len(classes)


def calibration_error(confidences: Sequence[float], right: Sequence[bool], bins: int = BINS) -> float:
    """Return the expected calibration error: sum over bins b of (n_b / n) |share right in b - mean confidence in b|.

    Confidence is the probability of the class that was chosen; bin m of M holds those in ((m - 1) / M, m / M]. From
    Guo et al. 2017 (arXiv 1706.04599), who take 15 bins. With few items in a bin it is above 0 by chance alone.

    >>> round(calibration_error([0.9, 0.9, 0.6, 0.6], [True, True, True, False]), 4)  # (2 * 0.1 + 2 * 0.1) / 4
    0.1
    """
    if len(confidences) != len(right) or not confidences:
        raise ValueError(f"confidences need the same items as outcomes: {len(confidences)} and {len(right)}")
    gaps = [0.0] * bins
    for confidence, outcome in zip(confidences, right, strict=True):
        # A tiny tolerance, so that 0.3 (a little more than 3 / 10 in binary) is in the bin that ends there.
        place = min(max(math.ceil(confidence * bins - 1e-9) - 1, 0), bins - 1)
        gaps[place] += outcome - confidence
    return math.fsum(map(abs, gaps)) / len(confidences)


def probabilities(logprobs: Sequence[float]) -> list[float]:
    """Return the softmax of log-probs (nats): how probable each class is if it is one of these.

    >>> [round(p, 4) for p in probabilities([-1000.0, -1000.0 - math.log(3.0)])]
    [0.75, 0.25]
    """
    if any(map(math.isnan, logprobs)):
        return [math.nan] * len(logprobs)
    highest = max(logprobs)
    weights = [math.exp(each - highest) for each in logprobs]
    return [weight / math.fsum(weights) for weight in weights]


def log_loss(logprobs: Sequence[float], true: int) -> float:
    """Return -ln of the true class's probability, if it is one of these (nats); computed without underflow.

    >>> round(log_loss([-5.0, -5.0, -5.0], 1), 4)
    1.0986
    """
    if any(map(math.isnan, logprobs)):
        return math.nan
    highest = max(logprobs)
    return highest + math.log(math.fsum(math.exp(each - highest) for each in logprobs)) - logprobs[true]
