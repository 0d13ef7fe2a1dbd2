"""Accuracy by subject, or by how long the problem is."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from markov_cot.analysis.report.groups import FEWEST, _length, _quarters, groups
from tests.report_runs import answers, healthy_rows, interrupted, write_run


def of(folder: Path, before: Any, after: Any) -> Any:
    return groups(write_run(folder, healthy_rows(), final=(before, after)))


def test_subjects_in_order_small_ones_left_out(tmp_path: Path) -> None:
    names = ["logic"] * 6 + ["algebra"] * 5 + ["rare"] * 4
    more = {"subject": lambda i: names[i]}
    found = of(tmp_path / "r", answers([False] * 15, **more), answers([i % 2 == 0 for i in range(15)], **more))
    assert found["by"] == "subject"
    assert [(group["name"], group["n"]) for group in found["groups"]] == [("algebra", 5), ("logic", 6)]
    algebra, logic = found["groups"]
    # Right are the problems 0, 2, 4 | 6, 8, 10.
    assert (logic["base"]["mean"], logic["trained"]["mean"], algebra["trained"]["mean"]) == (0.0, 0.5, 0.6)
    # Wilson's interval of 3 of 6.
    assert (round(logic["trained"]["low"], 3), round(logic["trained"]["high"], 3)) == (0.188, 0.812)


def test_without_subjects_enough_it_is_by_length(tmp_path: Path) -> None:
    more = {"subject": lambda i: f"subject {i}"}
    found = of(tmp_path / "r", answers([False] * 8, **more), answers([True] * 8, **more))
    assert found["by"] == "length" and sum(group["n"] for group in found["groups"]) == 8


def test_quarters_of_the_problems_by_their_characters(tmp_path: Path) -> None:
    more: dict[str, Any] = {"question": lambda i: "x" * (i + 1), "choices": lambda i: ["ab"], "passage": "cde"}
    found = of(tmp_path / "r", answers([False] * 8, **more), answers([i >= 4 for i in range(8)], **more))
    assert [(group["low"], group["high"], group["n"]) for group in found["groups"]] == [
        (6, 7, 2),
        (8, 9, 2),
        (10, 11, 2),
        (12, 13, 2),
    ]
    assert [group["trained"]["mean"] for group in found["groups"]] == [0.0, 0.0, 1.0, 1.0]


@given(st.lists(st.integers(0, 12), min_size=1, max_size=40))
def test_each_problem_is_in_exactly_one_bin(lengths: list[int]) -> None:
    rows = [{"problem": i, "question": "x" * length} for i, length in enumerate(lengths)]
    bins = _quarters(rows)
    assert sorted(row["problem"] for _, members in bins for row in members) == list(range(len(lengths)))
    assert 1 <= len(bins) <= 4
    for about, members in bins:
        assert members and about["low"] == min(map(_length, members)) and about["high"] == max(map(_length, members))
    for (one, _), (next_one, _) in itertools.pairwise(bins):
        assert one["high"] < next_one["low"]


@pytest.mark.parametrize("case", ["continuations", "other problems", "no base"])
def test_there_are_none_where_they_are_not_defined(tmp_path: Path, case: str) -> None:
    before, after = answers([False] * FEWEST), answers([True] * FEWEST)
    if case == "continuations":
        after = answers([None] * FEWEST)
    if case == "other problems":
        after[0]["problem"] = "another"
    source = write_run(tmp_path / "r", healthy_rows(), final=(before, after))
    if case == "no base":
        (tmp_path / "r" / "validation" / "final_base.jsonl.gz").unlink()
    assert groups(source) is None


def test_a_run_that_has_not_ended_has_none(tmp_path: Path) -> None:
    assert groups(interrupted(tmp_path / "r")) is None
