from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from markov_cot.config.schema import Data
from markov_cot.data.problem import Problem
from markov_cot.data.registry import load
from markov_cot.data.splits import Published, Role, assign, assign_own, group_key, question_key
from markov_cot.utils.errors import UserError


def written(path: Path, answers: list[Any], **fields: Any) -> Path:
    rows = [{"question": f"Number {i}?", "answer": answer, **fields} for i, answer in enumerate(answers)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def kinds_and_answers(path: Path, **settings: Any) -> tuple[set[str], set[tuple[str, ...]]]:
    splits = load(Data(dataset=str(path), **settings))
    problems = [*splits.train, *splits.validation, *splits.test]
    return {p.kind for p in problems}, {p.accepted for p in problems}


@pytest.mark.parametrize(
    ("answers", "kind", "expected"),
    [
        ([1, "2", "3.50"], "numeric", {("1",), ("2",), ("3.5",)}),
        (["Paris", "1889", "a  bridge\n of steel"], "text", {("Paris",), ("1889",), ("a bridge of steel",)}),
        ([["Ada", "Ada Lovelace", "Ada"], ["12"]], "text", {("Ada", "Ada Lovelace"), ("12",)}),
        (["e\u0301t\u00e9", "b", "c"], "text", {("\u00e9t\u00e9",), ("b",), ("c",)}),
    ],
)
def test_the_kind_is_that_of_the_whole_file(tmp_path: Path, answers: list[Any], kind: str, expected: Any) -> None:
    assert kinds_and_answers(written(tmp_path / "own.jsonl", answers)) == ({kind}, expected)


def test_the_kind_can_be_said(tmp_path: Path) -> None:
    path = written(tmp_path / "own.jsonl", ["1", "2", "3"])
    assert kinds_and_answers(path, kind="text") == ({"text"}, {("1",), ("2",), ("3",)})
    path = written(tmp_path / "own.jsonl", ["1", "2", "3"], kind="text")
    assert kinds_and_answers(path)[0] == {"text"}


def test_cells_of_a_csv_file_are_texts_or_numbers(tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    path.write_text("question,answer\nWho?,Ada\nWhen?,1843\nWhere?,London\n")
    assert kinds_and_answers(path) == ({"text"}, {("Ada",), ("1843",), ("London",)})
    path.write_text("question,answer,A,B\nWho?,A,Ada,Bob\nWhen?,B,1843,1844\nWhere?,A,x,y\n")
    assert kinds_and_answers(path)[0] == {"choice"}


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        (
            ["1", "2", "banana"],
            "own.jsonl line 3: answer 'banana' is not a number; for answers that are texts, set data",
        ),
        (
            ["Paris", "Rome", 3],
            "own.jsonl: mixes kinds of answers, text in 2 rows .*line 1.* and numeric in 1 row .*line 3",
        ),
        ([["Paris"], 3, 4], "own.jsonl: mixes kinds of answers, text in 1 row .*line 1.* and numeric in 2 rows"),
        (["Paris", ["Rome"], []], "own.jsonl line 3: answer: the list of accepted answers is empty"),
        (["Paris", "Rome", ""], "own.jsonl line 3: answer is empty"),
        (["Paris", "Rome", ["a", " "]], "own.jsonl line 3: answer: number 2 is empty"),
        (["Paris", "Rome", ["a", {}]], "own.jsonl line 3: answer: number 2: expected text, got an object"),
    ],
)
def test_a_fault_is_one_line(tmp_path: Path, answers: list[Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        load(Data(dataset=str(written(tmp_path / "own.jsonl", answers))))
    assert "\n" not in str(error.value)


def test_kinds_that_differ_between_files_or_from_choices_are_named(tmp_path: Path) -> None:
    written(tmp_path / "train.jsonl", ["Paris", "Rome"])
    written(tmp_path / "test.jsonl", [1])
    with pytest.raises(UserError, match="mixes kinds"):
        load(Data(dataset=str(tmp_path)))
    rows = [{"question": "q", "answer": "A", "choices": ["x", "y"]}, {"question": "r", "answer": 3}]
    path = tmp_path / "mixed.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(
        UserError, match=r"mixed\.jsonl: mixes kinds of answers, choice in 1 row \(the first: .* line 1\)"
    ):
        load(Data(dataset=str(path)))
    path.write_text(json.dumps({"question": "q", "answer": "A", "kind": "essay"}) + "\n")
    with pytest.raises(UserError, match="kind 'essay' is not known; there are numeric, choice, text"):
        load(Data(dataset=str(path)))


# --- groups


@given(
    st.lists(
        st.builds(
            lambda question, passage, group: Problem("", question, "1", "numeric", passage=passage, group=group),
            st.sampled_from([f"q{i}" for i in range(12)]),
            st.sampled_from(["", "", "p", "q", "r"]),
            st.sampled_from(["", "", *"abcdef"]),
        ),
        min_size=1,
        max_size=60,
    ),
    st.sets(st.sampled_from(["train", "validation", "test"]), min_size=1),
    st.booleans(),
)
def test_no_group_no_passage_and_no_question_straddles_two_splits(
    problems: list[Problem], roles: set[Role], is_own: bool
) -> None:
    there: list[Role] = [role for role in ("train", "validation", "test") if role in roles]
    files = [Published(role, role, problems[i :: len(there)]) for i, role in enumerate(there)]
    made = assign_own(files) if is_own else assign(files, group_key)
    sides = [
        {key(problem) for problem in side for key in (group_key, question_key)}
        for side in (made.train, made.validation, made.test)
    ]
    assert not sides[0] & sides[1] and not sides[0] & sides[2] and not sides[1] & sides[2]
    if "test" in roles:
        assert made.test == list(files[-1].problems)


def test_a_question_that_two_groups_ask_is_held_out_and_said_to_be() -> None:
    # Ten groups of four questions; each asks one that all of them ask.
    problems = [
        Problem(f"{g}-{i}", f"q{g}-{i}" if i else "all", "1", "numeric", group=str(g))
        for g in range(10)
        for i in range(4)
    ]
    made = assign_own([Published("own", "train", problems)])
    assert [len(split) for split in (made.train, made.validation, made.test)] == [18, 3, 12]
    assert "left out of own, because what is held out has them too: 7 problems" in made.note


def test_groups_share_out_the_problems_not_the_groups() -> None:
    # Ten groups of ten: three are 30 %, and one of the seven left is 10 % of 70 or more.
    problems = [Problem(f"{g}-{i}", f"q{g}-{i}", "1", "numeric", group=str(g)) for g in range(10) for i in range(10)]
    assigned = assign_own([Published("own", "train", problems)])
    assert [len(split) for split in (assigned.train, assigned.validation, assigned.test)] == [60, 10, 30]
