from __future__ import annotations

from typing import Any

import pytest

from markov_cot.data.benchmarks import aqua
from markov_cot.data.fields import RowError
from markov_cot.data.problem import Problem

ROW = {
    "question": "A train covers 90 km in 2 hours. Its speed?",
    "options": ["A)45 km/h", "B) 50", "C)1,000", "D)x) y", "E)none"],
    "rationale": "90/2 = 45",
    "correct": "A",
}


def test_a_row_becomes_a_problem(place: Any) -> None:
    assert aqua.from_row(ROW, place()) == Problem(
        id="dev-7",
        question="A train covers 90 km in 2 hours. Its speed?",
        answer="A",
        kind="choice",
        choices=("45 km/h", "50", "1,000", "x) y", "none"),
        rationale="90/2 = 45",
    )


@pytest.mark.parametrize(
    "options",
    [
        ["A)A)59", "B)B)69", "C)C)79"],
        ["A) A) 59", "B) B ) 69", "C)C)C) 79"],
        ["A)(A)59", "(B)(B) 69", "C)c) 79"],
        ["A)59", "B)B)69", "C)79"],
    ],
)
def test_doubled_labels(place: Any, options: list[str]) -> None:
    row = {**ROW, "options": options}
    assert aqua.from_row(row, place()).choices == ("59", "69", "79")


def test_what_only_looks_like_a_doubled_label_stays(place: Any) -> None:
    options = ["A)B)59", "B)(b + c)", "C)C) ", "D)(d)"]
    with pytest.raises(RowError, match="choice A"):
        aqua.from_row({**ROW, "options": ["A) ", "B)2", "C)3"]}, place())
    assert aqua.from_row({**ROW, "options": options}, place()).choices == ("B)59", "(b + c)", "C)", "(d)")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"correct": "F"}, "correct 'F' is not among the choices' labels A, B, C, D, E"),
        ({"correct": "D", "options": ["A)1", "B)2", "C)3"]}, "correct 'D' is not among"),
        ({"options": ["A)1", "B)2"]}, "expected 3 to 5 choices, got 2"),
        ({"options": ["A)1", "C)2", "B)3"]}, "number 2 is labelled C; expected A, B, C"),
        ({"options": ["1", "2", "3"]}, "'1' does not start with a label such as 'A\\)'"),
        ({"options": ["A)1", "B)", "C)3"]}, "choice B is empty"),
        ({"options": [f"{letter})1" for letter in "ABCDEF"]}, "number 6 is labelled F"),
        ({"options": "A)1"}, "options: expected a list, got text"),
    ],
)
def test_broken_rows(place: Any, change: dict[str, Any], message: str) -> None:
    with pytest.raises(RowError, match=message):
        aqua.from_row({**ROW, **change}, place())


def numbered(count: int, word: str) -> list[dict[str, Any]]:
    return [{**ROW, "question": f"{word} {i}?"} for i in range(count)]


def test_original_files(load_files: Any) -> None:
    splits = load_files("aqua", {"aqua/dev.json": numbered(30, "dev"), "aqua/test.json": numbered(4, "test")})
    assert len(splits.train) + len(splits.validation) == 30 and len(splits.test) == 4
    assert splits.note.startswith("no published training split was found; trains on dev, evaluates on test")


def test_hub_form(load_hub: Any) -> None:
    tables = {"train": numbered(5, "a"), "validation": numbered(3, "b"), "test": numbered(4, "c")}
    splits = load_hub("aqua", "deepmind/aqua_rat", "raw", tables)
    assert (len(splits.train), len(splits.validation), len(splits.test), splits.note) == (5, 3, 4, "")
