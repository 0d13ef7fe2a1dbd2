"""Suites: the installed ones load, and faults name the key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from markov_cot.data.registry import dataset_names
from markov_cot.evaluation.suites import build_suite, read_suite, suite_names
from markov_cot.utils.errors import UserError


def test_all_suites_load() -> None:
    assert {"quick", "paper"} <= set(suite_names())
    for name in suite_names():
        for task in read_suite(name).tasks:
            assert task.dataset in dataset_names()


def test_a_suite_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "seed: 3\ntasks:\n  - {dataset: arc, subset: easy, split: validation, limit: 5}\n  - dataset: a/b.jsonl\n"
    )
    suite = read_suite(str(path))
    assert suite.seed == 3
    assert [task.title for task in suite.tasks] == ["arc_easy_validation", "b"]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"tasks": [{"dataset": "gsm8k", "limt": 3}]}, "unknown key tasks.1.limt; did you mean limit"),
        ({"task": []}, "unknown key task; did you mean tasks?"),
        ({}, "tasks is missing"),
        ({"tasks": []}, "tasks is empty"),
        ({"tasks": [{"split": "test"}]}, "tasks.1.dataset is missing"),
        ({"tasks": [{"dataset": "arc", "split": "train"}]}, "tasks.1.split: input should be 'test' or 'validation'"),
        ({"tasks": [{"dataset": "arc"}, {"dataset": "arc", "limit": 0}]}, "tasks.2.limit: "),
        ({"tasks": [{"dataset": "arc"}, {"dataset": "arc"}]}, "arc is there twice"),
        (["arc"], "expected a mapping"),
    ],
)
def test_a_fault_names_the_key(values: Any, expected: str) -> None:
    with pytest.raises(UserError) as raised:
        build_suite(values, "suite x")
    assert str(raised.value).startswith("suite x: ")
    assert expected in str(raised.value)


def test_an_unknown_suite_names_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean quick"):
        read_suite("quikc")
    with pytest.raises(UserError, match=r"none\.yaml: does not exist"):
        read_suite("none.yaml")
