"""Changes of scores: exact McNemar against published p-values, the paired t against scipy, clusters by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from markov_cot.analysis.changed_items import Change, paired_shares, paired_values, unpaired
from markov_cot.analysis.score_tables import Reported


def changed(fixed: int, broken: int, same: int = 100) -> Change:
    pairs = [(False, True)] * fixed + [(True, False)] * broken + [(True, True), (False, False)] * (same // 2)
    return paired_shares(pairs)


@pytest.mark.parametrize(
    ("fixed", "broken", "p_value"), [(115, 65, 2.39e-4), (16, 11, 0.442), (12, 18, 0.362), (28, 29, 1.0)]
)
def test_published_p_values(fixed: int, broken: int, p_value: float) -> None:
    found = changed(fixed, broken)
    assert found.p_value == pytest.approx(p_value, rel=3e-3)
    assert (found.fixed, found.broken, found.n) == (fixed, broken, fixed + broken + 100)
    assert found.difference == pytest.approx((fixed - broken) / found.n)
    assert found.after - found.before == pytest.approx(found.difference)
    assert found.low is not None and found.high is not None and found.low < found.difference < found.high


def test_standard_errors_are_the_harnesss() -> None:
    found = paired_shares([(True, False), (False, False), (True, True), (False, True)])
    assert found.before_stderr == pytest.approx(math.sqrt(0.25 / 3)) and found.before == 0.5


def test_values_of_independent_items() -> None:
    generator = np.random.default_rng(0)
    before, after = generator.normal(3, 1, 40), generator.normal(3.2, 1, 40)
    found = paired_values(list(zip(before, after, strict=True)), [str(i) for i in range(40)])
    expected = stats.ttest_rel(after, before)
    assert found.p_value == pytest.approx(expected.pvalue)
    interval = expected.confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    assert found.fixed is None and found.paired and found.difference == pytest.approx(float((after - before).mean()))


def test_values_of_one_article_count_as_one() -> None:
    # Differences 1, 1, 1, 3, 3, 3 in two articles: stderr sqrt(2/1 * (3^2 + 3^2)) / 6 = 1, t of one degree of freedom.
    pairs = [(0.0, value) for value in (1.0, 1.0, 1.0, 3.0, 3.0, 3.0)]
    found = paired_values(pairs, ["a"] * 3 + ["b"] * 3)
    t = float(stats.t.ppf(0.975, 1))
    assert (found.low, found.high) == pytest.approx((2 - t, 2 + t))
    assert found.p_value == pytest.approx(2 * stats.t.sf(2, 1))
    alone = paired_values(pairs, list("abcdef"))
    assert alone.p_value is not None and found.p_value is not None and alone.p_value < found.p_value
    one = paired_values(pairs, ["a"] * 6)
    assert (one.low, one.high, one.p_value, one.detectable) == (None, None, None, None)


def test_values_that_do_not_change() -> None:
    found = paired_values([(1.5, 1.5), (2.5, 2.5)], ["a", "b"])
    assert (found.difference, found.low, found.high, found.p_value, found.detectable) == (0, 0, 0, 1, None)
    shifted = paired_values([(1.5, 2.5), (2.5, 3.5)], ["a", "b"])
    assert (shifted.low, shifted.p_value) == (1, 0)


def test_totals_are_compared_as_of_different_items() -> None:
    # The seed's MMLU row: -13 points are 1.88 standard errors.
    found = unpaired(Reported(0.47, 5e-5, 0.0502, 5e-5), Reported(0.34, 5e-5, 0.0476, 5e-5), is_share=True)
    z = 0.13 / math.hypot(0.0502, 0.0476)
    assert z == pytest.approx(1.879, abs=1e-3)
    assert found.p_value == pytest.approx(2 * stats.norm.sf(z)) and found.p_value > 0.05
    assert not found.paired and found.n is None and found.low is not None and found.low < -0.2
    from_n = unpaired(Reported(0.5, 0, n=101), Reported(0.5, 0, n=101), is_share=True)
    assert (from_n.before_stderr, from_n.n) == (0.05, 101)
    nothing = unpaired(Reported(3.0, 0), Reported(2.0, 0), is_share=False)
    assert (nothing.difference, nothing.low, nothing.p_value) == (-1, None, None)
