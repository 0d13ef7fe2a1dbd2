from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binomtest

from markov_cot.evaluation.statistics import (
    compare_paired,
    majority,
    mcnemar_p_value,
    mean_and_stderr,
    pass_at_k,
    small_sample_note,
    summarise_counts,
    wilson_interval,
)


def test_mean_and_stderr_by_hand() -> None:
    # 1, 2, 3, 6: mean 3, squares 4 + 1 + 0 + 9 = 14, variance 14 / 3, stderr sqrt(14 / 12)
    assert mean_and_stderr([1.0, 2.0, 3.0, 6.0]) == pytest.approx((3.0, math.sqrt(14 / 12)), rel=1e-15)
    assert mean_and_stderr([5.0]) == (5.0, None)
    with pytest.raises(ValueError, match="no values"):
        mean_and_stderr([])


def test_summary_by_hand() -> None:
    summary = summarise_counts(1, 4)
    # One 1 and three 0: mean 1/4, squares 9/16 + 3/16 = 3/4, variance 1/4, stderr 1/4
    assert (summary.n, summary.mean, summary.stderr) == (4, 0.25, 0.25)
    assert summarise_counts(1, 1).stderr is None
    assert mean_and_stderr([1.0, 0, 0, 0])[1] == summary.stderr


@pytest.mark.parametrize(("right", "n"), [(8, 10), (0, 10), (10, 10), (1, 1), (571, 1319), (1, 3)])
def test_wilson_agrees_with_scipy(right: int, n: int) -> None:
    reference = binomtest(right, n).proportion_ci(0.95, method="wilson")
    assert wilson_interval(right, n) == pytest.approx((reference.low, reference.high), abs=1e-12)


def test_wilson_by_hand() -> None:
    # z^2 = 3.841459; 8 of 10: centre (0.8 + 0.19207) / 1.38415 = 0.71674,
    # half 1.959964 / 1.38415 * sqrt(0.016 + 0.0096036) = 0.22658
    assert wilson_interval(8, 10) == pytest.approx((0.49016, 0.94332), abs=1e-5)
    assert wilson_interval(0, 10)[0] == 0
    with pytest.raises(ValueError, match="no share"):
        wilson_interval(0, 0)


def test_mcnemar_by_hand() -> None:
    assert mcnemar_p_value(1, 5) == pytest.approx(2 * (1 + 6) / 2**6, rel=1e-12)
    assert mcnemar_p_value(0, 0) == 1.0
    assert mcnemar_p_value(3, 3) == 1.0
    assert mcnemar_p_value(0, 10) == pytest.approx(2 / 2**10, rel=1e-12)


def test_paired_comparison() -> None:
    a = [True] * 30 + [False] * 70
    b = [True] * 25 + [False] * 5 + [True] * 35 + [False] * 35
    result = compare_paired(a, b)
    assert result.n == 100
    assert result.difference == pytest.approx(0.30)  # 35 gained, 5 lost
    assert result.p_value == mcnemar_p_value(5, 35)
    # The mean of 100 differences of variance (0.35 + 0.05) - 0.3^2 = 0.31 has the standard error 0.0557.
    assert result.low == pytest.approx(0.30 - 1.96 * 0.0557, abs=0.015)
    assert result.high == pytest.approx(0.30 + 1.96 * 0.0557, abs=0.015)


def test_paired_comparison_is_seeded() -> None:
    generator = np.random.default_rng(1)
    a, b = list(generator.normal(size=50)), list(generator.normal(size=50))
    assert compare_paired(a, b, seed=3) == compare_paired(a, b, seed=3)
    assert compare_paired(a, b, seed=3) != compare_paired(a, b, seed=4)
    assert compare_paired(a, b).p_value is None


def test_bootstrap_of_real_values_agrees_with_resampling_indices() -> None:
    values = np.random.default_rng(2).exponential(size=200)
    result = compare_paired([0.0] * 200, list(values), resamples=5000)
    draws = np.random.default_rng(5).integers(0, 200, size=(5000, 200))
    low, high = np.quantile(values[draws].mean(axis=1), (0.025, 0.975))
    assert (result.low, result.high) == pytest.approx((low, high), abs=0.02)


def test_equal_scores_differ_by_nothing() -> None:
    result = compare_paired([1, 0, 1], [1, 0, 1])
    assert (result.difference, result.low, result.high, result.p_value) == (0, 0, 0, 1)
    with pytest.raises(ValueError, match="same items"):
        compare_paired([1], [1, 0])


def test_pass_at_k_by_hand() -> None:
    assert pass_at_k(4, 1, 2) == pytest.approx(0.5)  # 1 - C(3,2) / C(4,2) = 1 - 3/6
    assert pass_at_k(10, 3, 1) == pytest.approx(0.3)
    assert pass_at_k(10, 3, 5) == pytest.approx(1 - 21 / 252)
    assert pass_at_k(5, 0, 5) == 0
    assert pass_at_k(5, 1, 5) == 1
    with pytest.raises(ValueError, match="pass@6"):
        pass_at_k(5, 1, 6)


def test_majority() -> None:
    assert majority(["B", "C", "C"]) == "C"
    assert majority(["B", "C"]) == "B"  # the earliest of equals
    assert majority([None, None, "D"]) == "D"  # invalid ones do not vote
    assert majority([None, None]) is None
    assert majority([]) is None


def test_small_samples_are_said_out_loud() -> None:
    assert small_sample_note(100) is None
    note = small_sample_note(25)
    assert note is not None
    assert "25 items" in note
    assert "1 item:" in (small_sample_note(1) or "")
    assert small_sample_note(100, is_share=False) is None
    assert small_sample_note(25, is_share=False) == (
        "Only 25 items: differences of less than two standard errors mean nothing."
    )
