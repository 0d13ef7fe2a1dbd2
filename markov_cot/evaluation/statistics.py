"""Error bars and comparisons. Accuracies are shares in [0, 1]; intervals are 95 % ones, as (low, high)."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

Z_95 = 1.959963984540054
"""The standard normal's 97.5 % quantile."""
Z_80 = 0.8416212335729143
"""Its 80 % quantile."""
SMALL_N = 100
_BOOTSTRAP_CELLS = 4_000_000
"""Counts drawn at a time, so that memory does not grow with the number of resamples."""


Vote = TypeVar("Vote", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Summary:
    """An accuracy with what it is worth."""

    n: int
    mean: float
    stderr: float | None
    """Sample standard deviation (ddof 1) / sqrt(n), as lm-evaluation-harness; None for n = 1."""
    low: float
    high: float
    """Wilson 95 % interval."""


@dataclass(frozen=True, slots=True)
class PairedComparison:
    """Two scores of the same items: `difference` is b - a."""

    n: int
    difference: float
    low: float
    high: float
    """Percentile bootstrap 95 % interval over the items."""
    p_value: float | None
    """Exact McNemar; None unless both scores are right or wrong."""


def mean_and_stderr(values: Sequence[float | int]) -> tuple[float, float | None]:
    """Mean and its standard error: sample standard deviation (ddof 1) / sqrt(n); None for one value.

    >>> mean_and_stderr([1.0, 2.0, 3.0, 6.0])[0]
    3.0
    """
    if not values:
        raise ValueError("the mean of no values is not defined")
    array = np.asarray(values, dtype=np.float64)
    if len(array) == 1:
        return float(array[0]), None
    return float(array.mean()), float(array.std(ddof=1) / math.sqrt(len(array)))


def wilson_interval(right: int | float, n: int) -> tuple[float, float]:
    """Wilson's 95 % score interval for `right` of `n`. It stays inside [0, 1] and is not empty at 0 or n right.

    Where an item counts in part (the mean over its samples), items vary less than coins and the interval is wider
    than it need be.

    >>> [round(x, 4) for x in wilson_interval(8, 10)]
    [0.4902, 0.9433]
    """
    if not 0 <= right <= n or n == 0:
        raise ValueError(f"{right} of {n} is no share")
    share, z2 = right / n, Z_95**2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z_95 / (1 + z2 / n) * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    low = 0.0 if right == 0 else max(0.0, centre - half)
    high = 1.0 if right == n else min(1.0, centre + half)
    return low, high


def summarise_counts(right: int, n: int) -> Summary:
    """The summary of `right` correct answers out of `n`.

    >>> summarise_counts(1, 4).stderr  # sqrt((0.25 * 0.75) * 4/3 / 4)
    0.25
    """
    low, high = wilson_interval(right, n)
    share = right / n
    stderr = math.sqrt(share * (1 - share) / (n - 1)) if n > 1 else None
    return Summary(n, share, stderr, low, high)


def small_sample_note(n: int, *, is_share: bool = True) -> str | None:
    """The sentence to print beside an accuracy, or another mean, from few items; None from `SMALL_N` on.

    >>> small_sample_note(20)
    'Only 20 items: the 95 % interval is up to 40 points wide, so smaller differences mean nothing.'
    """
    if n >= SMALL_N:
        return None
    items = "item" if n == 1 else "items"
    if not is_share:
        return f"Only {n} {items}: differences of less than two standard errors mean nothing."
    low, high = wilson_interval(n // 2, n)
    width = 100 * (high - low)
    return f"Only {n} {items}: the 95 % interval is up to {width:.0f} points wide, so smaller differences mean nothing."


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over items."""

    n: int
    mean: float
    low: float | None
    high: float | None
    """Percentile bootstrap 95 % interval over the items; None for one item."""
    detectable: float | None
    """The smallest true mean that so many items, as spread as these, would tell from 0; None where they do not vary."""


def estimate(values: Sequence[float], *, resamples: int = 10_000, seed: int = 0) -> Estimate:
    """Return the mean of values, one an item, with its interval and what could have been detected.

    >>> estimate([1.0, 1.0, 1.0, 1.0])
    Estimate(n=4, mean=1.0, low=1.0, high=1.0, detectable=None)
    """
    mean, stderr = mean_and_stderr(values)
    if stderr is None:
        return Estimate(1, mean, None, None, None)
    low, high = _bootstrap_interval(np.asarray(values, dtype=np.float64), resamples, seed)
    return Estimate(len(values), mean, low, high, detectable_effect(stderr) if stderr else None)


def detectable_effect(stderr: float) -> float:
    """Return the effect that a two-sided test at 5 % finds with a probability of 80 %: (z_0.975 + z_0.8) stderr.

    >>> round(detectable_effect(0.1), 4)
    0.2802
    """
    return (Z_95 + Z_80) * stderr


def sign_test_p_value(differences: Sequence[float]) -> float:
    """Exact two-sided sign test of a median of 0; differences of 0 say nothing and are left out.

    >>> sign_test_p_value([0.5, 0.1, 2.0, 0.3, 0.2, -0.1, 0.0])  # 2 * (C(6,0) + C(6,1)) / 2^6
    0.21875
    """
    below, above = sum(d < 0 for d in differences), sum(d > 0 for d in differences)
    return mcnemar_p_value(below, above)


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Return p-values adjusted for how many there are: Holm's step-down, max_{j <= i} min(1, (m - j + 1) p_(j)).

    From Holm 1979 (Scandinavian Journal of Statistics 6).

    >>> holm({"a": 0.01, "b": 0.04, "c": 0.03})
    {'a': 0.03, 'c': 0.06, 'b': 0.06}
    """
    adjusted, largest = {}, 0.0
    for rank, (name, p_value) in enumerate(sorted(p_values.items(), key=lambda pair: pair[1])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_value))
        adjusted[name] = largest
    return adjusted


def compare_paired(
    a: Sequence[float | int], b: Sequence[float | int], *, resamples: int = 10_000, seed: int = 0
) -> PairedComparison:
    """Scores `a` and `b` of the same items in the same order: b - a, a paired bootstrap interval, McNemar's p-value.

    Items are resampled with replacement, each with both its scores. Raises `ValueError` unless the lengths agree.

    >>> compare_paired([False, False, True, False], [True, True, True, True]).difference
    0.75
    """
    if len(a) != len(b) or not a:
        raise ValueError(f"paired scores need the same items: {len(a)} and {len(b)}")
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    differences = second - first
    low, high = _bootstrap_interval(differences, resamples, seed)
    p_value = None
    if np.isin(first, (0, 1)).all() and np.isin(second, (0, 1)).all():
        p_value = mcnemar_p_value(int((differences < 0).sum()), int((differences > 0).sum()))
    return PairedComparison(len(a), float(differences.mean()), low, high, p_value)


def mcnemar_p_value(only_a: int, only_b: int) -> float:
    """Exact two-sided McNemar test: `only_a` items that only a got right, `only_b` that only b did.

    >>> mcnemar_p_value(1, 5)  # 2 * (C(6,0) + C(6,1)) / 2^6
    0.21875
    """
    if only_a + only_b == 0:
        return 1.0
    from scipy.stats import binomtest  # takes a second to import, which `grade` need not wait for

    return float(binomtest(only_a, only_a + only_b, 0.5).pvalue)


def pass_at_k(samples: int, right: int, k: int) -> float:
    """Unbiased estimate of P(at least one of k samples is right) from `right` of `samples`: 1 - C(n-c, k) / C(n, k).

    From Chen et al. 2021 (arXiv 2107.03374). Average it over the problems.

    >>> pass_at_k(4, 1, 1), pass_at_k(4, 1, 2), pass_at_k(4, 3, 2)
    (0.25, 0.5, 1.0)
    """
    if not 1 <= k <= samples or not 0 <= right <= samples:
        raise ValueError(f"pass@{k} is not defined for {right} right of {samples} samples")
    return 1.0 - math.comb(samples - right, k) / math.comb(samples, k)


def majority(votes: Sequence[Vote | None]) -> Vote | None:
    """The most frequent vote, the earliest of equals; invalid ones (None) do not vote. None when all are invalid.

    For maj@k, vote with `Extractor.vote`, to which 70,000 and 70000 are one number.

    >>> majority(["B", None, "C", "C", None, None]), majority(["B", "C"]), majority([None])
    ('C', 'B', None)
    """
    counts = Counter(vote for vote in votes if vote is not None)
    return counts.most_common(1)[0][0] if counts else None


def spearman(
    a: Sequence[float], b: Sequence[float], *, resamples: int = 1_000, seed: int = 0
) -> tuple[float | None, float | None, float | None]:
    """Return Spearman's rho of paired values, ties at their mean rank, and a percentile bootstrap 95 % interval.

    Nones where one side does not vary. Resamples in which it does not are left out.

    >>> spearman([1.0, 2.0, 3.0, 4.0], [10.0, 20.0, 40.0, 30.0])[0]
    0.8
    """
    left, right = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    rho = rank_correlation(left, right)
    if rho is None:
        return None, None, None
    picks = np.random.default_rng(seed).integers(len(left), size=(resamples, len(left)))
    resampled = [value for pick in picks if (value := rank_correlation(left[pick], right[pick])) is not None]
    low, high = np.quantile(resampled or [rho], (0.025, 0.975))
    return rho, float(low), float(high)


def rank_correlation(x: np.ndarray, y: np.ndarray) -> float | None:
    """Return Spearman's rho, Pearson's of the ranks with ties at their mean rank; None where a side is constant.

    Without ties it is 1 - 6 sum d^2 / (n (n^2 - 1)), which with ties is not the correlation of anything.

    >>> rank_correlation(np.array([1.0, 2.0, 2.0, 3.0]), np.array([1.0, 2.0, 3.0, 4.0]))  # 4.5 / sqrt(4.5 * 5)
    0.948683298051
    """
    from scipy.stats import rankdata

    x, y = rankdata(x), rankdata(y)
    x, y = x - x.mean(), y - y.mean()
    size = math.sqrt(float((x @ x) * (y @ y)))
    return round(float(x @ y) / size, 12) if size else None


def _bootstrap_interval(values: np.ndarray, resamples: int, seed: int) -> tuple[float, float]:
    """Percentile interval of the mean. Drawing how often each distinct value occurs is drawing the items."""
    distinct, counts = np.unique(values, return_counts=True)
    generator = np.random.default_rng(seed)
    block = max(1, _BOOTSTRAP_CELLS // len(distinct))
    sizes = [min(block, resamples - done) for done in range(0, resamples, block)]
    shares = counts / counts.sum()
    sums = np.concatenate([generator.multinomial(len(values), shares, size) @ distinct for size in sizes])
    low, high = np.quantile(sums / len(values), (0.025, 0.975))
    return float(low), float(high)
