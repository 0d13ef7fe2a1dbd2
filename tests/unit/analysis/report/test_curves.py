"""What is drawn over the steps, and the table at the steps that matter."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from markov_cot.analysis.report.curves import CURVES, POINTS, _thinned, curves, key_steps
from markov_cot.analysis.report.held_out import result
from tests.report_runs import collapsed, healthy, healthy_rows, log_rows, unvalidated, validated, write_run


def test_a_curve_for_what_is_logged_and_none_for_what_is_not(tmp_path: Path) -> None:
    found = curves(healthy(tmp_path / "r"))
    logged = [title for title, keys, _ in CURVES if keys != ("cot/copied",)]
    assert [curve["title"] for curve in found] == ["Held-out score", *logged]
    score = found[0]
    assert score["unit"] == "share right"
    [series] = score["series"]
    assert (series["key"], series["steps"], series["values"]) == (
        "eval/arithmetic/accuracy",
        [0, 6, 12],
        [0.4, 0.6, 0.8],
    )
    # Wilson's interval of 40 of 100.
    assert [round(series["low"][0], 3), round(series["high"][0], 3)] == [0.309, 0.498]
    reward = found[1]
    assert [each["key"] for each in reward["series"]] == ["reward/answer_logprob", "reward/baseline_logprob"]
    assert reward["series"][0]["low"] is None and reward["series"][0]["steps"] == list(range(1, 13))
    assert [curve["title"] for curve in curves(write_run(tmp_path / "bare", log_rows(2, policy__kl=0.1)))] == [
        "KL to the reference"
    ]


def test_a_band_that_is_not_whole_is_none(tmp_path: Path) -> None:
    rows = [validated(0, 40), validated(4, 60)]
    del rows[1]["eval/arithmetic/accuracy_low"]
    [curve] = curves(write_run(tmp_path / "r", rows))
    assert curve["series"][0]["low"] is None and curve["series"][0]["high"] is None


def test_values_that_are_not_finite_are_left_out(tmp_path: Path) -> None:
    rows = log_rows(3, policy__kl=0.1)
    rows[1]["policy/kl"] = None
    [curve] = curves(write_run(tmp_path / "r", rows))
    assert curve["series"][0]["steps"] == [1, 3]


@given(st.integers(0, 5 * POINTS))
def test_thinning_keeps_both_ends_in_order_and_bounds_the_points(count: int) -> None:
    steps = list(range(7, 7 + 3 * count, 3))
    kept = _thinned(steps)
    assert len(kept) <= POINTS + 1 and kept == sorted(set(kept)) and set(kept) <= set(steps)
    assert kept[:1] == steps[:1] and kept[-1:] == steps[-1:]
    if count <= POINTS:
        assert kept == steps


def test_the_key_steps_are_start_best_first_alarm_and_end(tmp_path: Path) -> None:
    source = collapsed(tmp_path / "r")
    found = key_steps(source, result(source))
    assert [(each["label"], each["step"]) for each in found] == [
        ("start", 1),
        ("best", 6),
        ("first alarm", 8),
        ("end", 12),
    ]
    at = [each["metrics"] for each in found]
    # The score of the start is that of the base; one at a step without validation is of the last before.
    assert [each["eval/arithmetic/accuracy"] for each in at] == [0.4, 0.6, 0.6, 0.02]
    assert [each["cot/repetition"] for each in at] == [0.1, 0.1, 0.99, 0.99]


def test_without_validation_or_alarm_there_are_two_key_steps(tmp_path: Path) -> None:
    source = unvalidated(tmp_path / "r")
    assert [(each["label"], each["step"]) for each in key_steps(source, None)] == [("start", 1), ("end", 5)]
    assert all(
        each["metrics"].keys() == key_steps(source, None)[0]["metrics"].keys() for each in key_steps(source, None)
    )


def test_a_metric_that_begins_later_is_taken_from_its_first_step(tmp_path: Path) -> None:
    rows = healthy_rows()[1:5]
    rows[3]["leak/answer_first"] = 0.25
    found = key_steps(write_run(tmp_path / "r", rows), None)
    assert [each["metrics"]["leak/answer_first"] for each in found] == [0.25, 0.25]
