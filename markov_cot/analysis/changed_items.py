"""What became of a score: its difference with an interval, a test of it, and what could have been detected.

Differences are after less before.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from markov_cot.analysis.paired_shares import detectable_difference, tango_interval
from markov_cot.analysis.resampling import ratio_stderr
from markov_cot.analysis.score_tables import Reported
from markov_cot.evaluation.statistics import Z_95, detectable_effect, mcnemar_p_value, mean_and_stderr


@dataclass(frozen=True, slots=True)
class Change:
    """A score before and after."""

    paired: bool
    """Whether the items of both sides are compared one by one."""
    n: int | None
    """Items; None where it is not known, or not the same on both sides."""
    before: float
    before_stderr: float | None
    after: float
    after_stderr: float | None
    difference: float
    low: float | None
    high: float | None
    """95 % interval of the difference; None where there is nothing to make it of."""
    p_value: float | None
    """Two-sided."""
    detectable: float | None
    """The smallest true difference that so many items would show with a probability of 80 %."""
    fixed: int | None = None
    """Items that were wrong before and are right after; None unless items are right or wrong."""
    broken: int | None = None
    """Those that were right before and are wrong after."""


def paired_shares(pairs: Sequence[tuple[bool, bool]]) -> Change:
    """Return the change of a share of right answers: Tango's interval and the exact McNemar test."""
    n = len(pairs)
    fixed = sum(after and not before for before, after in pairs)
    broken = sum(before and not after for before, after in pairs)
    before, before_stderr = mean_and_stderr([a for a, _ in pairs])
    after, after_stderr = mean_and_stderr([b for _, b in pairs])
    low, high = tango_interval(fixed, broken, n)
    return Change(
        True,
        n,
        before,
        before_stderr,
        after,
        after_stderr,
        (fixed - broken) / n,
        low,
        high,
        mcnemar_p_value(broken, fixed),
        detectable_difference(fixed, broken, n),
        fixed,
        broken,
    )


def paired_values(pairs: Sequence[tuple[float, float]], groups: Sequence[str]) -> Change:
    """Return the change of a mean: Student's interval and test of the differences, the groups being independent.

    With every item a group of its own that is the paired t test. Otherwise the standard error is that of a mean of
    clusters (Cochran 1977, chapter 6), with one degree of freedom less than groups.
    """
    from scipy.stats import t  # takes a second to import

    before, before_stderr = mean_and_stderr([a for a, _ in pairs])
    after, after_stderr = mean_and_stderr([b for _, b in pairs])
    differences = np.array([b - a for a, b in pairs])
    _, group_of = np.unique(np.asarray(groups), return_inverse=True)
    size_U, sum_U = np.bincount(group_of), np.bincount(group_of, differences)
    stderr = ratio_stderr(sum_U, size_U, np.ones_like(size_U))
    difference = float(differences.mean())
    low = high = p_value = None
    if stderr is not None:
        free = len(size_U) - 1
        half = float(t.ppf(0.975, free)) * stderr
        low, high = difference - half, difference + half
        p_value = float(2 * t.sf(abs(difference) / stderr, free)) if stderr else float(difference == 0)
    return Change(
        True,
        len(pairs),
        before,
        before_stderr,
        after,
        after_stderr,
        difference,
        low,
        high,
        p_value,
        detectable_effect(stderr) if stderr else None,
    )


def unpaired(before: Reported, after: Reported, *, is_share: bool) -> Change:
    """Return the change of a total: a normal interval and test from both standard errors, as of different items."""
    stderrs = [_stderr(each, is_share=is_share) for each in (before, after)]
    difference = after.score - before.score
    low = high = p_value = detectable = None
    if stderrs[0] is not None and stderrs[1] is not None:
        stderr = math.hypot(stderrs[0], stderrs[1])
        low, high = difference - Z_95 * stderr, difference + Z_95 * stderr
        p_value = math.erfc(abs(difference) / stderr / math.sqrt(2)) if stderr else float(difference == 0)
        detectable = detectable_effect(stderr) if stderr else None
    n = before.n if before.n == after.n else None
    return Change(
        False, n, before.score, stderrs[0], after.score, stderrs[1], difference, low, high, p_value, detectable
    )


def _stderr(reported: Reported, *, is_share: bool) -> float | None:
    """The reported one, or of a share that of its n items."""
    if reported.stderr is not None or not is_share or reported.n is None or reported.n < 2:
        return reported.stderr
    return math.sqrt(reported.score * (1 - reported.score) / (reported.n - 1))
