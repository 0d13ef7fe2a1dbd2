from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from markov_cot.config import Data
from markov_cot.errors import UserError
from markov_cot.tasks import jsonl
from markov_cot.tasks.fields import RowError
from markov_cot.tasks.problem import Problem
from markov_cot.tasks.registry import load


def test_numeric_rows(place: Any) -> None:
    row = {"question": "How much?", "answer": "70,000", "passage": "A story.", "id": 12, "other": []}
    assert jsonl.from_row(row, place()) == Problem("12", "How much?", "70000", "numeric", passage="A story.")
    assert jsonl.from_row({"question": "q", "answer": 3.50, "choices": None, "id": None}, place()).answer == "3.5"
    assert jsonl.from_row({"question": "q", "answer": 3, "choices": []}, place()).id == "dev-7"


@pytest.mark.parametrize(
    ("choices", "answer", "letter"),
    [
        (["red", "green"], "B", "B"),
        (["red", "green"], "b", "B"),
        (["red", "green"], "green", "B"),
        (["red", "green"], " red ", "A"),
        ([4, 2, 7], 2, "B"),
        ([4, 2, 7], "7", "C"),
        (["0.5", "1.5"], 1.5, "B"),
        (["A", "B", "C"], "B", "B"),  # label and text agree
        (["v", "w", "x", "y", "z"], "E", "E"),
    ],
)
def test_choice_answers(place: Any, choices: list[Any], answer: Any, letter: str) -> None:
    problem = jsonl.from_row({"question": "q", "answer": answer, "choices": choices}, place())
    assert (problem.answer, problem.kind) == (letter, "choice")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"answer": 1}, r"field 'question' is missing \(the row has answer\)"),
        ({"question": "q"}, "field 'answer' is missing"),
        ({"question": "q", "answer": ""}, "answer is empty"),
        ({"question": "q", "answer": "Paris"}, "answer 'Paris' is not a number"),
        ({"question": "q", "answer": True}, "answer: expected a number, got true"),
        ({"question": ["q"], "answer": 1}, "question: expected text, got a list"),
        ({"question": "q", "choices": ["x", "y"]}, "field 'answer' is missing"),
        ({"question": "q", "answer": "", "choices": ["x", "y"]}, "answer is empty"),
        ({"question": "q", "answer": True, "choices": ["x", "y"]}, "answer: expected text, got true"),
        ({"question": "q", "answer": "C", "choices": ["x", "y"]}, r"'C' is neither a label \(A, B\) nor the text of a"),
        ({"question": "q", "answer": "X", "choices": ["x", "y"]}, "'X' is neither a label"),
        ({"question": "q", "answer": "x", "choices": ["x", "x"]}, "answer 'x' could mean choice A or B"),
        ({"question": "q", "answer": "A", "choices": ["B", "A"]}, "answer 'A' could mean choice A or B"),
        ({"question": "q", "answer": "A", "choices": ["x"]}, "expected 2 to 26 choices, got 1"),
        ({"question": "q", "answer": "A", "choices": [f"c{i}" for i in range(27)]}, "expected 2 to 26 choices, got 27"),
        ({"question": "q", "answer": "A", "choices": "x, y"}, "choices: expected a list, got text"),
        ({"question": "q", "answer": 1, "passage": 5}, "passage: expected text, got a number"),
        ({"question": "q", "answer": 1, "id": 1.5}, "id: expected text or a whole number, got a number"),
        ([1, 2], "expected an object with fields, got a list"),
    ],
)
def test_broken_rows(place: Any, row: Any, message: str) -> None:
    with pytest.raises(RowError, match=message):
        jsonl.from_row(row, place())


def lines(count: int) -> str:
    return "".join(json.dumps({"question": f"q{i}", "answer": i}) + "\n" for i in range(count))


@pytest.mark.parametrize("name", ["mine.jsonl", "mine.jsonl.gz"])
def test_a_path_is_a_dataset(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(gzip.compress(lines(50).encode()) if name.endswith(".gz") else lines(50).encode())
    splits = load(Data(dataset=str(path)))
    assert len(splits.train) + len(splits.validation) + len(splits.test) == 50
    assert (splits.name, splits.source, splits.skipped) == ("mine", str(path), 0)
    assert all(p.id == f"mine-{int(p.question[1:]) + 1}" for p in splits.train)
    assert splits.note == "30 % of the questions of mine are held out for test and 10 % of the rest for validation"


def test_broken_lines_are_named_or_skipped(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_bytes(
        lines(5).encode() + b'{"question": }\n{"question": "\xff"}\n{"question": "q"}\n' + lines(5).encode()
    )
    with pytest.raises(UserError) as raised:
        load(Data(dataset=str(path)))
    assert str(raised.value) == (
        f"{path} line 6: not JSON (column 14: Expecting value); mend the row or pass --skip-bad-rows"
    )
    splits = load(Data(dataset=str(path), skip_bad_rows=True))
    assert splits.skipped == 3
    assert len(splits.train) + len(splits.validation) + len(splits.test) == 10


@pytest.mark.parametrize(
    ("content", "skip", "message"),
    [
        ("", False, "gives no problem; is it the right file"),
        (
            "{}\n[]\n",
            True,
            "gives no problem; every row is broken, the first: .*mine.jsonl line 1: field 'question' is miss",
        ),
    ],
)
def test_files_without_a_problem(tmp_path: Path, content: str, skip: bool, message: str) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text(content)
    with pytest.raises(UserError, match=message):
        load(Data(dataset=str(path), skip_bad_rows=skip))


def test_paths_that_are_no_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.jsonl: does not exist; check the path"):
        load(Data(dataset=str(tmp_path / "none.jsonl")))
    (tmp_path / "folder.jsonl").mkdir()
    with pytest.raises(UserError, match=r"folder\.jsonl: holds no data; give a folder with \.jsonl"):
        load(Data(dataset=str(tmp_path / "folder.jsonl")))
    (tmp_path / "braces {} {0}.jsonl").write_text("{}")
    with pytest.raises(UserError, match=r"braces \{\} \{0\}\.jsonl line 1: field 'question' is missing"):
        load(Data(dataset=str(tmp_path / "braces {} {0}.jsonl")))


def test_subsets_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(lines(9))
    with pytest.raises(UserError, match="a file of one's own has no subsets"):
        load(Data(dataset=str(tmp_path / "a.jsonl"), subset="x"))
