from __future__ import annotations

import json
from typing import Any

import pytest

from markov_cot.data.benchmarks import mathqa
from markov_cot.data.fields import RowError

ROW = {
    "Problem": "how many ways are there ?",
    "Rationale": "5 * 5 = 25",
    "options": "a ) 24 , b ) 120 , c ) 625 , d ) 720 , e ) 1024",
    "correct": "c",
    "annotated_formula": "power(5, 4)",
    "linear_formula": "power(n1,n0)|",
    "category": "general",
}


def test_a_row_becomes_a_problem(place: Any) -> None:
    problem = mathqa.from_row(ROW, place())
    assert (problem.question, problem.answer, problem.kind) == ("how many ways are there ?", "C", "choice")
    assert problem.choices == ("24", "120", "625", "720", "1024")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("a ) 1 , 2 , b ) 3 , c ) x , y , z", ["1 , 2", "3", "x , y , z"]),
        ("a ) less than 10 , b ) 101 — 1,000 , c ) 1,001 +", ["less than 10", "101 — 1,000", "1,001 +"]),
        ("a ) ( b ) , b ) ( 2 , 3 ) , c ) a ) 4", ["( b )", "( 2 , 3 )", "4"]),
        ("a ) a ) 3 , b ) 2 , c ) c ) 5", ["3", "2", "5"]),
        ("a ) 11 , b ) 18 , c ) d ) 36", ["11", "18", "36"]),
        ("a)1,b)2,c)3", ["1", "2", "3"]),
        ("a ) rs . 4,200 , b ) 5,b ) 6 , c ) 7", ["rs . 4,200", "5,b ) 6", "7"]),
        ("['a ) 13 1 / 2', 'b ) 1,001', 'c ) ( 5,280 mt ) / 12']", ["13 1 / 2", "1,001", "( 5,280 mt ) / 12"]),
        ('["a ) it\'s", "b ) 2", "c ) 3"]', ["it's", "2", "3"]),
        ("['a ) a ) 160 degree', 'b ) b ) 198 degree', 'c ) 1']", ["160 degree", "198 degree", "1"]),
    ],
)
def test_options(options: str, expected: list[str]) -> None:
    assert mathqa.parse_options(options) == expected


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"options": "24 , 120 , 625"}, "'24 , 120 , 625' does not start with the label 'a \\)'"),
        ({"options": "a ) 1 , c ) 2 , d ) 3"}, "expected 3 to 5 choices, got 1"),
        ({"options": "a ) 1 , b ) , c ) 3"}, "choice B is empty"),
        ({"options": "['a ) 1', 'c ) 2', 'b ) 3']"}, "'c \\) 2' does not start with the label 'b \\)'"),
        ({"options": "['a ) 1'"}, "is not a list"),
        ({"options": "[1, 2, 3]"}, "is not a list of texts"),
        ({"options": "['a ) 1', 'b ) 1', 'c ) 1', 'd ) 1', 'e ) 1', 'f ) 1']"}, "expected 3 to 5 choices, got 6"),
        ({"correct": "C"}, "correct 'C' is not among the choices' labels a, b, c, d, e"),
        ({"correct": "f"}, "correct 'f' is not among"),
    ],
)
def test_broken_rows(place: Any, change: dict[str, str], message: str) -> None:
    with pytest.raises(RowError, match=message):
        mathqa.from_row({**ROW, **change}, place())


def numbered(count: int, word: str) -> list[dict[str, str]]:
    return [{**ROW, "Problem": f"{word} {i} ?"} for i in range(count)]


def test_original_file(load_files: Any) -> None:
    splits = load_files("mathqa", {"mathqa/dev.json": json.dumps(numbered(60, "q"))})
    assert len(splits.train) + len(splits.validation) + len(splits.test) == 60
    assert "only one published split (dev)" in splits.note


def test_hub_form(load_hub: Any) -> None:
    """allenai/math_qa needs code that `datasets` no longer runs, so its copy is asked next."""
    tables = {"train": numbered(5, "a"), "validation": numbered(3, "b"), "test": numbered(4, "c")}
    for dataset_id in ("allenai/math_qa", "regisss/math_qa"):
        splits = load_hub("mathqa", dataset_id, None, tables)
        assert (len(splits.train), len(splits.validation), len(splits.test)) == (5, 3, 4)
        assert splits.source == f"hub:{dataset_id}"
