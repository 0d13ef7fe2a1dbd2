from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from markov_cot.analysis import correlations
from markov_cot.analysis.correlations import Correlation, correlate

values = st.lists(st.integers(0, 5).map(float), min_size=3, max_size=7)


def test_by_hand() -> None:
    # Ranks 1 2 3 4 and 1 2 4 3: 1 - 6 * 2 / 60. Of the 24 orders, 1 has rho 1, 3 have 0.8, and as many the opposite.
    assert correlate([10, 20, 30, 40], [1, 2, 9, 8]) == Correlation(4, 0.8, 8 / 24)
    # Mean ranks 1, 2.5, 2.5, 4 against 1 2 3 4: covariance 4.5, variances 4.5 and 5.
    tied = correlate([1, 5, 5, 7], [1, 2, 3, 4])
    assert tied.rho == pytest.approx(4.5 / math.sqrt(4.5 * 5), abs=1e-12)
    assert tied.p_value == 4 / 24, "each order that has the extreme rho is there twice, and so is its opposite"
    without_ties = 1 - 6 * 0.5 / (4 * 15)
    assert abs(tied.rho - without_ties) > 1e-3


def test_a_side_that_does_not_vary_has_none() -> None:
    assert correlate([1, 1, 1], [1, 2, 3]) == Correlation(3, None, None)


@settings(max_examples=40)
@given(values, st.integers(0, 1000))
def test_as_scipy_has_it_and_as_it_should_be(x: list[float], seed: int) -> None:
    y = np.random.default_rng(seed).integers(0, 5, len(x)).astype(float).tolist()
    found = correlate(x, y)
    if len(set(x)) == 1 or len(set(y)) == 1:
        assert found.rho is None
        return
    assert found.rho == pytest.approx(float(spearmanr(x, y).statistic), abs=1e-9)
    assert correlate(y, x).rho == found.rho and correlate(y, x).p_value == pytest.approx(found.p_value)
    assert correlate([math.exp(v) for v in x], [v**3 for v in y]) == found, "only the order counts"
    assert correlate(x, [-v for v in y]).rho == pytest.approx(-found.rho)


def test_drawn_permutations_are_near_the_exact_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = [1.0, 2, 3, 4, 5, 6, 7], [2.0, 1, 4, 3, 7, 5, 6]
    exact = correlate(x, y).p_value
    monkeypatch.setattr(correlations, "MOST_EXACT", 3)
    drawn = correlate(x, y)
    assert drawn.p_value == pytest.approx(exact, abs=0.01) and drawn.p_value != exact
    assert correlate(x, y) == drawn, "a function of the seed"
