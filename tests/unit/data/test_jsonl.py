from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from markov_cot.config.schema import Data
from markov_cot.data import jsonl
from markov_cot.data.fields import RowError
from markov_cot.data.problem import Problem
from markov_cot.data.registry import load
from markov_cot.utils.errors import UserError


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
        f"{path} line 6: not JSON (column 14: Expecting value); fix the row or pass --skip-bad-rows"
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


COLOURS = ["red", "green", "blue"]


@pytest.mark.parametrize(
    ("choices", "answer", "letter", "texts"),
    [
        ({"label": ["A", "B", "C"], "text": COLOURS}, "B", "B", COLOURS),  # as the hub has ARC
        ({"text": COLOURS, "label": ["1", "2", "3"]}, "3", "C", COLOURS),
        ([{"label": "1", "text": "red"}, {"label": "2", "text": "green"}], 2, "B", COLOURS[:2]),  # as ARC's authors
        ({"A": "red", "B": "green", "C": None}, "b", "B", COLOURS[:2]),
        (COLOURS, 0, "A", COLOURS),  # as MMLU: a position, counted from 0
        (COLOURS, 2.0, "C", COLOURS),
        (COLOURS, "(b)", "B", COLOURS),
        (COLOURS, "C.", "C", COLOURS),
        (["red", "red", "blue"], "B", "B", ["red", "red", "blue"]),
        (["1", "0"], 1, None, []),  # position or text?
        (["0", "1"], 1, "B", ["0", "1"]),  # both
        ([1.5, 2, 3], 2, "B", ["1.5", "2", "3"]),  # among numbers, a text
        ([f"option {i}" for i in range(10)], "J", "J", [f"option {i}" for i in range(10)]),
        ([f"option {i}" for i in range(26)], 25, "Z", [f"option {i}" for i in range(26)]),
    ],
)
def test_forms_of_choices(place: Any, choices: Any, answer: Any, letter: str | None, texts: list[str]) -> None:
    for name in ("choices", "options"):
        row = {"question": "q", "answer": answer, name: choices}
        if letter is None:
            with pytest.raises(RowError, match="answer '1' could mean choice A or B; give its letter"):
                jsonl.from_row(row, place())
        else:
            problem = jsonl.from_row(row, place())
            assert (problem.answer, list(problem.choices), problem.kind) == (letter, texts, "choice")


@pytest.mark.parametrize(
    ("choices", "answer", "message"),
    [
        (COLOURS, 3, "answer '3' is neither a label .* nor the text of a choice, nor a position from 0 to 2"),
        (COLOURS, -1, "answer '-1' is neither"),
        (COLOURS, None, "answer: expected text, got nothing"),
        (COLOURS, 10**400, "answer '1000.* is neither"),
        (COLOURS, 1.5, "answer '1.5' is neither"),
        ({"label": ["A"], "text": COLOURS}, "A", "choices: 1 labels for 3 texts"),
        ({"label": ["A", "a"], "text": COLOURS[:2]}, "A", "choices: labels are A, a; each must be there once"),
        ([{"text": "red"}, {"text": "green"}], "A", "field 'label' is missing"),
        (["red", None], "A", "choices: choice B: expected text, got nothing"),
        (["red", " "], "A", "choices: choice B is empty"),
    ],
)
def test_broken_choices(place: Any, choices: Any, answer: Any, message: str) -> None:
    with pytest.raises(RowError, match=message):
        jsonl.from_row({"question": "q", "answer": answer, "choices": choices}, place())


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (72, "72"),
        (72.0, "72"),
        (0.1, "0.1"),
        (-0.0, "0"),
        (" 72 ", "72"),
        (10**40, "1" + 40 * "0"),
        (1e22, "1" + 22 * "0"),
    ],
)
def test_numbers(place: Any, answer: Any, text: str) -> None:
    assert jsonl.from_row({"question": "q", "answer": answer}, place()).answer == text


def test_a_text_called_options_is_passed_over(place: Any) -> None:
    assert jsonl.from_row({"question": "q", "answer": 2, "options": "fast"}, place()).kind == "numeric"


@pytest.mark.parametrize("answer", [None, True, False, float("nan"), float("inf"), {}])
def test_what_is_no_number(place: Any, answer: Any) -> None:
    with pytest.raises(RowError, match=r"answer( nan| inf|: expected a number)"):
        jsonl.from_row({"question": "q", "answer": answer}, place())
