"""CSV files: every cell is text."""

from __future__ import annotations

from pathlib import Path

import pytest

from markov_cot.config.schema import Data
from markov_cot.data.problem import Problem
from markov_cot.data.registry import load
from markov_cot.utils.errors import UserError


def read(folder: Path, text: str) -> Problem:
    """The problem of the first row; the test split is never empty."""
    path = folder / "mine.csv"
    path.write_text(text, newline="")
    splits = load(Data(dataset=str(path)))
    return min([*splits.train, *splits.validation, *splits.test], key=lambda problem: problem.id)


@pytest.mark.parametrize(
    ("header", "cells", "answer", "choices"),
    [
        ("choices,answer", '"[""red"", ""a, b""]",B', "B", ("red", "a, b")),
        ("choices,answer", "\"['red', 'it''s']\",A", "A", ("red", "its")),
        ("choices,answer", "red | green|blue,green", "B", ("red", "green", "blue")),
        ("options,answer", "red|green,1", "B", ("red", "green")),
        ("choices,answer", '"{""label"": [""1"", ""2""], ""text"": [""x"", ""y""]}",y', "B", ("x", "y")),
        ("A,B,C,answer", "red,green,,a", "A", ("red", "green")),
        ("answer,choices", "007,", "7", ()),
        ("answer,passage", '"1,250",', "1250", ()),
    ],
)
def test_cells(tmp_path: Path, header: str, cells: str, answer: str, choices: tuple[str, ...]) -> None:
    problem = read(tmp_path, f"question,{header}\r\nq,{cells}\r\n")
    assert (problem.question, problem.answer, problem.choices) == ("q", answer, choices)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("question,answer\nq\n", "line 2: expected 2 cells, as in the header, got 1; fix the row"),
        ("question,answer\nq,1,2\n", "line 2: expected 2 cells, as in the header, got 3"),
        ('question,answer\n"q\nq",\n', "line 2: field 'answer' is missing"),
        ('question,answer\nq,1\n"q,2\nq,3\n', r"line 3: not CSV \(unexpected end of data\); correct the file"),
        ("question,question,answer\n", "line 1: the header has 'question' twice; give each column a name of its own"),
        ("q,1\nr,2\n", r"line 2: field 'question' is missing \(the row has q, 1\)"),
        ("question,choices,answer\nq,[red],A\n", r"line 2: choices: '\[red\]' is not a JSON list"),
        ("question,choices,answer\nq,red,A\n", r"line 2: choices: 'red' is neither a JSON list nor texts separated by"),
        ("question,choices,answer\nq,4|2|1,1\n", "line 2: answer '1' could mean choice B or C; give its letter"),
        ("question,choices,answer\nq,x|y,2\n", r"answer '2' is neither .*, nor a position from 0 to 1"),
        (
            "question,A,B,C,answer\nq,x,,z,A\n",
            "choices: columns A, B, C leave one out; fill A, B, C ... in their order",
        ),
        (
            "question,A,B,answer\nq,5,7,1\n",
            r"line 2: answer '1' is neither a label \(A, B\) nor the text of a choice; fix",
        ),
        ("question,answer\n", "gives no problem"),
    ],
)
def test_broken_cells(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read(tmp_path, text)


def test_numbers_stay_as_they_were_written(tmp_path: Path) -> None:
    """Readers that guess types make 1e3 of 1000.0 and nothing of NA."""
    assert read(tmp_path, "question,answer,id\nq,0.10,NA\n") == Problem("NA", "q", "0.1", "numeric")
