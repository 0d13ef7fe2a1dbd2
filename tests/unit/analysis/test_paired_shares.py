"""Tango's interval and Connor's detectable difference: against the definition, worked by hand and by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from markov_cot.analysis.paired_shares import detectable_difference, score, tango_interval
from markov_cot.evaluation.statistics import Z_80, Z_95

counts = st.integers(1, 60).flatmap(
    lambda n: st.integers(0, n).flatmap(lambda b: st.integers(0, n - b).map(lambda c: (b, c, n)))
)


def most_likely(fixed: int, broken: int, n: int, difference: float) -> float:
    """The share of broken items of the highest likelihood at a difference, by trying many."""
    q = np.linspace(max(0.0, -difference), (1 - difference) / 2, 200_001)[1:-1]
    rest = n - fixed - broken
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = ((fixed, q + difference), (broken, q), (rest, 1 - 2 * q - difference))
        likelihood = sum(k * np.log(share) for k, share in terms if k)
    return float(q[np.argmax(likelihood)])


@pytest.mark.parametrize(("fixed", "broken", "n"), [(12, 18, 60), (0, 4, 30), (7, 0, 20), (3, 5, 8), (28, 29, 200)])
def test_the_ends_are_where_a_score_test_rejects(fixed: int, broken: int, n: int) -> None:
    for end in tango_interval(fixed, broken, n):
        if abs(end) == 1:
            continue
        q = most_likely(fixed, broken, n, end)
        z = (fixed - broken - n * end) / math.sqrt(n * (2 * q + end * (1 - end)))
        assert abs(z) == pytest.approx(Z_95, abs=2e-3)


def test_by_hand() -> None:
    z2 = Z_95**2
    assert tango_interval(0, 0, 50) == pytest.approx((-z2 / (50 + z2), z2 / (50 + z2)))
    assert tango_interval(9, 0, 9)[1] == 1 and tango_interval(0, 9, 9)[0] == -1
    # At no difference it is McNemar's statistic.
    assert score(12, 18, 60, 0) == pytest.approx((12 - 18) / math.sqrt(30))
    for impossible in ((-1, 0, 5), (3, 3, 5), (0, 0, 0)):
        with pytest.raises(ValueError, match="not possible"):
            tango_interval(*impossible)


@given(counts)
def test_it_holds_the_difference_and_turns_with_the_sides(case: tuple[int, int, int]) -> None:
    fixed, broken, n = case
    low, high = tango_interval(fixed, broken, n)
    assert -1 <= low <= (fixed - broken) / n <= high <= 1 and low < high
    assert tango_interval(broken, fixed, n) == pytest.approx((-high, -low), abs=1e-9)


def test_it_covers_what_it_should() -> None:
    generator, n, shares = np.random.default_rng(0), 40, (0.05, 0.15, 0.8)
    drawn = generator.multinomial(n, shares, 1500)
    inside = [low <= -0.1 <= high for b, c, _ in drawn for low, high in [tango_interval(int(b), int(c), n)]]
    assert 0.94 < np.mean(inside) < 0.97


def test_the_detectable_difference_satisfies_its_equation() -> None:
    for fixed, broken, n in ((12, 18, 1319), (3, 2, 100), (40, 40, 100)):
        d, changed = detectable_difference(fixed, broken, n), (fixed + broken) / n
        if d is None:
            # So few changed that all of them to one side would be missed in more than a fifth of the cases.
            assert math.sqrt(n) * changed < Z_95 * math.sqrt(changed) + Z_80 * math.sqrt(changed - changed**2)
            continue
        assert math.sqrt(n) * d == pytest.approx(Z_95 * math.sqrt(changed) + Z_80 * math.sqrt(changed - d * d))
    assert detectable_difference(0, 0, 100) is None and detectable_difference(1, 1, 2) is None
    assert detectable_difference(1, 1, 100) is None
