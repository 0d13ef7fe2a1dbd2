"""Base against trained on held-out problems."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from markov_cot.analysis.report.held_out import FINAL, SO_FAR, result
from markov_cot.analysis.report.verdict import verdict
from markov_cot.evaluation.runs import held_out_key
from markov_cot.utils.errors import UserError
from tests.report_runs import answers, healthy, healthy_rows, interrupted, unvalidated, validated, write_run


def found(source: Any) -> dict[str, Any]:
    of = result(source)
    assert of is not None
    return of


def test_the_difference_is_paired(tmp_path: Path) -> None:
    # Of 10 problems 6 are fixed and 1 is broken: 5 / 10, and McNemar 2 (C(7,0) + C(7,1)) / 2^7 = 0.125.
    before, after = answers([i >= 6 for i in range(10)]), answers([i < 9 for i in range(10)])
    of = found(write_run(tmp_path / "r", healthy_rows(), final=(before, after), best_step=6))
    assert (of["stage"], of["step"], of["best_step"], of["n"], of["measure"]) == (FINAL, 12, 6, 10, "accuracy")
    difference = of["difference"]
    assert (difference["fixed"], difference["broken"], difference["n"]) == (6, 1, 10)
    assert difference["difference"] == pytest.approx(0.5) and difference["p_value"] == pytest.approx(0.125)
    assert difference["low"] < 0.5 < difference["high"]
    # 6 log-probs rise by 1, one falls by 1.
    assert of["logprob_difference"]["difference"] == pytest.approx(0.5)
    assert of["logprob_difference"]["p_value"] is None


def test_an_interrupted_run_is_judged_by_its_last_validation(tmp_path: Path) -> None:
    of = found(interrupted(tmp_path / "r"))
    assert (of["stage"], of["step"], of["best_step"], of["n"]) == (SO_FAR, 2, 2, 10)
    assert (of["base"]["accuracy"], of["trained"]["accuracy"]) == (0.4, 0.5)
    assert (of["difference"]["fixed"], of["difference"]["broken"]) == (2, 0)


def test_of_equal_validations_the_first_is_the_best(tmp_path: Path) -> None:
    source = write_run(tmp_path / "r", [validated(0, 40), validated(4, 60), validated(8, 60), validated(9, 50)])
    assert found(source)["best_step"] == 4
    assert found(source)["difference"] is None, "no answers were kept"


def test_without_validation_there_is_no_result(tmp_path: Path) -> None:
    assert result(unvalidated(tmp_path / "r")) is None
    assert result(write_run(tmp_path / "once", [validated(0, 40), *healthy_rows()[1:3]])) is None


def test_continuations_are_measured_by_their_log_prob(tmp_path: Path) -> None:
    rows = [{"step": step, "eval/wiki/answer_logprob": -3.0 + step} for step in (0, 1)]
    before, after = (answers([None] * 5, answer_logprob=value) for value in (-3.0, -2.0))
    of = found(write_run(tmp_path / "r", rows, validations={0: before, 1: after}))
    assert of["measure"] == "answer_logprob" and of["best_step"] == 1
    assert of["difference"] == of["logprob_difference"]
    assert of["difference"]["difference"] == 1.0 and "fixed" not in of["difference"]


def test_log_probs_that_happen_to_be_zero_are_no_right_and_wrong(tmp_path: Path) -> None:
    before, after = (answers([None] * 5, answer_logprob=0.0) for _ in range(2))
    rows = [{"step": step, "eval/wiki/answer_logprob": 0.0} for step in (0, 1)]
    assert found(write_run(tmp_path / "r", rows, validations={0: before, 1: after}))["difference"]["p_value"] is None


@pytest.mark.parametrize("change", [{"problem": "another"}, {"right": None}])
def test_answers_that_do_not_pair_give_no_difference(tmp_path: Path, change: dict[str, Any]) -> None:
    before, after = answers([False] * 5), answers([True] * 5)
    after[3] |= change
    assert found(write_run(tmp_path / "r", healthy_rows(), final=(before, after)))["difference"] is None


def test_accuracy_is_the_measure_where_there_are_both() -> None:
    keys = ["loss/total", "eval/x/answer_logprob", "eval/x/accuracy_low", "eval/x/accuracy"]
    assert held_out_key(keys) == "eval/x/accuracy"
    assert held_out_key(["eval/x/answer_logprob"]) == "eval/x/answer_logprob"
    assert held_out_key(["loss/total"]) is None


@pytest.mark.parametrize(
    ("init", "critic", "against"), [(None, "base", "base"), ("x", "base", "start"), ("x", "init", "base")]
)
def test_before_its_end_a_warm_started_run_is_held_against_its_start(
    tmp_path: Path, init: str | None, critic: str, against: str
) -> None:
    rows = [validated(0, 50), validated(4, 90)]
    kept = {0: answers([False] * 8), 4: answers([True] * 8)}
    source = write_run(tmp_path / "r", rows, validations=kept, settings={"lora.init": init, "lora.critic": critic})
    assert found(source)["against"] == against
    said = {"base": "its base", "start": "the adapter that it started from"}[against]
    assert f"is better than {said} on unseen" in verdict(source, result(source))["sentence"]


def test_without_a_validation_before_training_nothing_is_held_against_it(tmp_path: Path) -> None:
    source = write_run(tmp_path / "r", [validated(2, 50), validated(4, 90)])
    assert result(source) is None and verdict(source, None)["word"] == "not measured"


@pytest.mark.parametrize("content", ["{", "[]", '{"base": {}}', '{"base": 1, "trained": 2, "step": 1, "best_step": 1}'])
def test_a_damaged_summary_is_named(tmp_path: Path, content: str) -> None:
    source = healthy(tmp_path / "r")
    (tmp_path / "r" / "summary.json").write_text(content)
    with pytest.raises(UserError, match=r"summary\.json: does not hold the final scores"):
        result(source)
    assert json.loads((tmp_path / "r" / "log.jsonl").read_text().splitlines()[0])["step"] == 0
