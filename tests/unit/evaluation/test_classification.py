"""Macro F1, calibration and log loss by hand and as properties."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from markov_cot.evaluation.classification import calibration_error, log_loss, macro_f1, probabilities

LOGPROBS = st.lists(st.floats(-50, 0), min_size=2, max_size=5)


def test_macro_f1_by_hand() -> None:
    # A: 2 * 2 / (3 + 3), B: 2 * 1 / (2 + 1), C: never right, but predicted once.
    assert macro_f1(["A", "A", "A", "B", "B"], ["A", "A", "B", "C", "A"]) == pytest.approx((4 / 6 + 0 + 0) / 3)
    assert macro_f1(["A", "B"], ["A", "B"]) == 1.0
    # Invalid answers are of no class: recall of B is 1 / 2, its precision 1.
    assert macro_f1(["A", "B", "B"], ["A", "B", None]) == pytest.approx((1 + 2 / 3) / 2)
    with pytest.raises(ValueError, match="1 and 2"):
        macro_f1(["A", "B"], ["A"])


def test_calibration_by_hand() -> None:
    # (0.3, 0.4] holds 0.4 and 0.35, one right: |1 - 0.75| = 0.25; (0.9, 1] holds 1.0, wrong: |0 - 1| = 1.
    assert calibration_error([0.4, 0.35, 1.0], [True, False, False]) == pytest.approx(1.25 / 3)
    # A confidence on the edge is in the bin below it: 0.3 with 0.25, whose errors add up, and not with 0.35.
    assert calibration_error([0.3, 0.25], [True, False]) == pytest.approx(abs(1 - 0.55) / 2)
    assert calibration_error([0.3, 0.35], [True, False]) == pytest.approx((0.7 + 0.35) / 2)
    assert calibration_error([0.0], [False]) == 0.0
    with pytest.raises(ValueError, match="0 and 0"):
        calibration_error([], [])


def test_log_loss_by_hand() -> None:
    assert log_loss([math.log(0.2), math.log(0.2), math.log(0.1)], 0) == pytest.approx(-math.log(0.4))
    assert log_loss([-3.0] * 3, 2) == pytest.approx(1.0986, abs=5e-5), "uniform"
    assert log_loss([0.0, -1000.0], 1) == 1000.0, "no underflow"
    assert math.isnan(log_loss([0.0, math.nan], 0))
    assert all(map(math.isnan, probabilities([math.nan, 0.0])))


@given(LOGPROBS, st.floats(-30, 30))
def test_probabilities_add_up_and_do_not_depend_on_what_all_share(logprobs: list[float], shift: float) -> None:
    found = probabilities(logprobs)
    assert math.fsum(found) == pytest.approx(1.0)
    assert probabilities([each + shift for each in logprobs]) == pytest.approx(found)
    assert [log_loss(logprobs, i) for i in range(len(logprobs))] == pytest.approx(
        [-math.log(p) for p in found], abs=1e-9
    )


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=30))
def test_calibration_is_a_mean_distance(pairs: list[tuple[float, bool]]) -> None:
    confidences, right = map(list, zip(*pairs, strict=True))
    whole = abs(sum(right) - sum(confidences)) / len(pairs)
    # One bin is the distance of the means, and more bins can only show more of it.
    assert calibration_error(confidences, right, bins=1) == pytest.approx(whole)
    assert whole - 1e-9 <= calibration_error(confidences, right) <= 1.0
