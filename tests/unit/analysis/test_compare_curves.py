"""Curves over the steps and what runs cost, from logs made by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from markov_cot.analysis.compare_costs import Cost, cost_of
from markov_cot.analysis.compare_curves import Curve, PooledSeries, Series, curves_of
from markov_cot.analysis.compare_run import read_compared
from markov_cot.analysis.compare_settings import by_setting
from tests.run_folders import make_run

ACCURACY = "eval/sums/accuracy"


def curves(folder: Path, *names: str) -> dict[tuple[str, str], Curve]:
    runs = read_compared(names, folder)
    return {(each.key, each.data): each for each in curves_of(runs, by_setting(runs))}


def rewards(*values: float | None) -> list[dict[str, Any]]:
    return [{"step": i, "reward/value": value} for i, value in enumerate(values)]


def test_seeds_are_pooled_at_the_steps_that_all_of_them_have(tmp_path: Path) -> None:
    make_run(tmp_path / "a", rewards(-1.0, -2.0, -4.0, -5.0))
    make_run(tmp_path / "b", rewards(-3.0, None, -1.0), seed=1)
    make_run(tmp_path / "c", rewards(-5.0, -1.0, -1.0), seed=2)
    found = curves(tmp_path, "a", "b", "c")["reward/value", "arithmetic"]
    assert found.runs["b"] == Series((0, 2), (-3.0, -1.0)), "what is no number is left out"
    assert found.runs["a"].step == (0, 1, 2, 3)
    assert list(found.pooled) == [PooledSeries(("a", "b", "c"), (0, 2), (-3.0, -2.0), (-5.0, -4.0), (-1.0, -1.0))]


def test_one_seed_and_other_settings_are_not_pooled(tmp_path: Path) -> None:
    make_run(tmp_path / "a", rewards(-1.0))
    make_run(tmp_path / "b", rewards(-1.0), seed=1, optim__lr=0.5)
    assert curves(tmp_path, "a", "b")["reward/value", "arithmetic"].pooled == ()


def test_a_seed_without_the_curve_leaves_nothing_to_pool(tmp_path: Path) -> None:
    make_run(tmp_path / "a", rewards(-1.0))
    make_run(tmp_path / "b", [{"step": 0, "policy/kl": 0.5}], seed=1)
    make_run(tmp_path / "far", [{"step": 7, "reward/value": -1.0, "policy/kl": 0.25}], seed=1)
    found = curves(tmp_path, "a", "b")
    assert list(found["reward/value", "arithmetic"].runs) == ["a"]
    assert found["reward/value", "arithmetic"].pooled == found["policy/kl", "arithmetic"].pooled == ()
    assert curves(tmp_path, "a", "far")["reward/value", "arithmetic"].pooled == ()


def test_held_out_accuracy_has_its_band(tmp_path: Path) -> None:
    log = [{"step": 0, ACCURACY: 0.5, f"{ACCURACY}_low": 0.25, f"{ACCURACY}_high": 0.75}, {"step": 1}]
    make_run(tmp_path / "a", log)
    make_run(tmp_path / "b", [{"step": 3, "eval/wiki/answer_logprob": -2.0}], data__dataset="wiki")
    found = curves(tmp_path, "a", "b")
    assert found["eval/accuracy", "arithmetic"].runs == {"a": Series((0,), (0.5,), (0.25,), (0.75,))}
    assert found["eval/answer_logprob", "wiki"].runs == {"b": Series((3,), (-2.0,))}


def test_runs_on_different_data_are_not_laid_over_one_another(tmp_path: Path) -> None:
    for name, terms in (("a", [2, 2]), ("b", [2, 2]), ("c", [3, 3])):
        make_run(tmp_path / name, rewards(-1.0), data={"dataset": "arithmetic", "terms": terms})
    found = curves(tmp_path, "a", "b", "c")
    assert [list(curve.runs) for curve in found.values()] == [["a", "b"], ["c"]]


# --- costs


def cost(folder: Path, name: str) -> Cost:
    make_run(folder / "other")
    return cost_of(read_compared([name, "other"], folder)[0])


def test_what_a_run_cost(tmp_path: Path) -> None:
    """Two steps of 3 questions x 4 CoTs x 5 tokens, and one group of 4 sampled again: (6 + 1) x 4 x 5 tokens."""
    log = [
        {"step": 0, ACCURACY: 0.5},
        {"step": 1, "perf/step_seconds": 1.5, "perf/peak_memory_bytes": 300, "reward/resampled_groups": 0},
        {"step": 2, "perf/step_seconds": 2.0, "perf/peak_memory_bytes": 200, "reward/resampled_groups": 1},
    ]
    make_run(tmp_path / "r", log, rollout={"problems": 3, "samples": 4, "length": 5})
    assert cost(tmp_path, "r") == Cost(3.5, 140, "sampled", 300)


def test_a_warm_start_counts_the_tokens_it_learnt(tmp_path: Path) -> None:
    log = [{"step": step, "perf/step_seconds": 1.0, "sft/tokens": 50} for step in (1, 2)]
    make_run(tmp_path / "r", log, method="sft")
    found = cost(tmp_path, "r")
    assert (found.tokens, found.tokens_of) == (100, "learnt")


@pytest.mark.parametrize("method", ["rl", "sft"])
def test_an_empty_log_says_nothing_of_the_cost(tmp_path: Path, method: str) -> None:
    make_run(tmp_path / "r", method=method)
    found = cost(tmp_path, "r")
    assert (found.seconds, found.tokens, found.peak_memory_bytes) == (None, None, None)
