"""How runs ended, and what several seeds come to."""

from __future__ import annotations

import json
import statistics
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from markov_cot.analysis.compare_results import Held, best_validation, pool, read_ending
from markov_cot.utils.errors import UserError
from tests.run_folders import make_run

NAN = float("nan")


def held(value: float, measure: str = "accuracy") -> Held:
    return Held(measure, value, None, None)


def test_seeds_pooled_by_hand() -> None:
    """0.5, 0.7 and 0.9: mean 0.7, deviations -0.2, 0 and 0.2, so sqrt(0.08 / 2) = 0.2."""
    found = pool({3: held(0.9), 1: held(0.5), 2: held(0.7)})
    assert found and found.mean == pytest.approx(0.7) and found.deviation == pytest.approx(0.2)
    assert (found.lowest, found.highest, found.seeds) == (0.5, 0.9, (3, 1, 2))


def test_one_seed_has_no_spread() -> None:
    found = pool({0: held(0.5)})
    assert found and (found.mean, found.deviation, found.lowest, found.highest) == (0.5, None, 0.5, 0.5)


def test_what_is_no_number_or_another_measure_is_not_pooled() -> None:
    assert pool({}) is None
    assert pool({0: held(NAN)}) is None
    assert pool({0: held(0.5), 1: held(-1.0, "answer_logprob")}) is None
    found = pool({0: held(0.5), 1: held(NAN)})
    assert found and found.seeds == (0,)


@given(st.lists(st.floats(0, 1), min_size=2, max_size=6))
def test_a_pool_is_within_its_seeds_and_does_not_depend_on_their_order(values: list[float]) -> None:
    found = pool(dict(enumerate(map(held, values))))
    turned = pool(dict(enumerate(map(held, reversed(values)))))
    assert found and turned and found.deviation is not None
    assert found.lowest - 1e-12 <= found.mean <= found.highest + 1e-12
    assert found.mean == pytest.approx(turned.mean) and found.deviation == pytest.approx(turned.deviation or 0)
    assert found.deviation == pytest.approx(statistics.stdev(values))


def test_how_a_run_ended(tmp_path: Path) -> None:
    found = read_ending(make_run(tmp_path / "r", trained=0.5, n=40) / "summary.json")
    assert found and (found.step, found.best_step, found.base.value, found.base.step) == (8, 4, 0.25, None)
    assert found.trained == Held("accuracy", 0.5, 0.25, 0.75, 40, None, 8)


def test_continuations_have_no_interval(tmp_path: Path) -> None:
    path = make_run(tmp_path / "r", trained=0.5) / "summary.json"
    summary = json.loads(path.read_text())
    summary["trained"] |= {"accuracy": None, "low": 0.0, "high": 0.0}
    path.write_text(json.dumps(summary))
    found = read_ending(path)
    assert found and found.trained == Held("answer_logprob", -0.5, None, None, 4, None, 8)


@pytest.mark.parametrize(
    "text", ["", "{}", "[1]", '{"step": 3, "best_step": null, "base": {}, "trained": {}}', "[" * 100_000]
)
def test_a_damaged_summary_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "summary.json").write_text(text)
    with pytest.raises(UserError, match=r"summary\.json: is damaged; resume the run"):
        read_ending(tmp_path / "summary.json")


def test_no_summary_is_no_ending(tmp_path: Path) -> None:
    assert read_ending(tmp_path / "summary.json") is None


def test_the_best_validation_is_after_step_0_and_the_earliest_of_equals() -> None:
    log = {
        "step": [0, 1, 2, 3, 4],
        "eval/x/accuracy": [0.9, 0.5, NAN, 0.75, 0.75],
        "eval/x/accuracy_low": [0.8, 0.4, NAN, 0.6, 0.7],
        "eval/x/accuracy_high": [1.0, 0.6, NAN, 0.8, 0.9],
    }
    assert best_validation(log) == Held("accuracy", 0.75, 0.6, 0.8, step=3)
    assert best_validation({"step": [0], "eval/x/accuracy": [0.9]}) is None
    assert best_validation({"step": [1], "loss/total": [0.9]}) is None
    logprobs = {"step": [1, 2], "eval/x/answer_logprob": [-2.0, -1.0]}
    assert best_validation(logprobs) == Held("answer_logprob", -1.0, None, None, step=2)
