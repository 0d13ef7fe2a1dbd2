"""What differs between runs, which of them are seeds of one setting, and on what data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from markov_cot.analysis.compare_run import ComparedRun, read_compared
from markov_cot.analysis.compare_settings import by_setting, data_of, differing
from tests.run_folders import make_run


def runs(folder: Path, **made: dict[str, Any]) -> tuple[ComparedRun, ...]:
    for name, settings in made.items():
        make_run(folder / name, **settings)
    return read_compared(list(made), folder)


def test_only_what_differs_is_shown_and_a_setting_that_a_run_has_not_is_left_out(tmp_path: Path) -> None:
    found = runs(
        tmp_path, a={"optim__lr": 0.5}, b={"optim__lr": 0.25, "reward": {"function": "m:f", "args": {"x": 1}}}, c={}
    )
    assert differing(found) == {
        "reward.function": {"a": "answer_logprob", "b": "m:f", "c": "answer_logprob"},
        "reward.args.x": {"b": 1},
        "optim.lr": {"a": 0.5, "b": 0.25, "c": 1e-4},
    }
    assert differing(found[:1] + found[:1]) == {}


def test_seeds_of_a_setting_are_pooled_whatever_their_names_and_folders(tmp_path: Path) -> None:
    found = runs(
        tmp_path,
        late={"seed": 2, "trained": 0.75, "checkpoint__every": 3, "tracking": {"args": {"wandb": {"name": "late"}}}},
        early={"seed": 1, "trained": 0.25, "data__data_dir": "/elsewhere"},
        other={"seed": 1, "trained": 0.25, "optim__lr": 0.5},
    )
    both, other = by_setting(found)
    assert (both.runs, both.members, other.runs) == (("late", "early"), ("early", "late"), ("other",))
    assert both.pooled and both.pooled.mean == 0.5 and both.pooled.seeds == (1, 2)
    assert both.pooled.deviation == pytest.approx(0.5 / 2**0.5)
    assert {each.runs for each in by_setting(found[::-1])} == {("early", "late"), ("other",)}


def test_a_seed_that_is_there_twice_counts_once(tmp_path: Path) -> None:
    found = runs(tmp_path, a={"trained": 0.5}, b={"trained": 1.0}, c={"trained": 0.0, "seed": 1})
    (setting,) = by_setting(found)
    assert (setting.members, setting.repeated) == (("a", "c"), ("b",))
    assert setting.pooled and setting.pooled.mean == 0.25
    (again,) = by_setting(runs(tmp_path, broken={}, whole={"trained": 1.0}))
    assert (again.members, again.repeated) == (("whole",), ("broken",)), "one that has ended speaks for its seed"


def test_a_seed_without_a_result_is_not_in_the_pool(tmp_path: Path) -> None:
    (setting,) = by_setting(runs(tmp_path, a={"trained": 0.5}, b={"seed": 1}))
    assert setting.pooled and (setting.pooled.seeds, setting.pooled.deviation) == ((0,), None)
    (none,) = by_setting(runs(tmp_path, c={}, d={"seed": 1}))
    assert none.pooled is None


def test_data_are_named_by_the_dataset_and_by_what_differs_between_those_of_one_name(tmp_path: Path) -> None:
    found = runs(
        tmp_path,
        a={"data": {"dataset": "arithmetic", "terms": [2, 2]}},
        b={"data": {"dataset": "arithmetic", "terms": [3, 3], "data_dir": "x", "skip_bad_rows": True}},
        c={"data": {"dataset": "gsm8k", "terms": [4, 4]}},
        d={"data": {"dataset": "gsm8k", "terms": [4, 4], "swap": True}},
    )
    assert data_of(found) == {
        "a": "arithmetic (data.terms=[2, 2])",
        "b": "arithmetic (data.terms=[3, 3])",
        "c": "gsm8k",
        "d": "gsm8k",
    }
