from __future__ import annotations

from typing import Any

import pytest

from markov_cot.data.benchmarks import hellaswag
from markov_cot.data.fields import RowError
from markov_cot.data.problem import Problem
from markov_cot.utils.errors import UserError

ROW = {
    "activity_label": "Personal Care",
    "ctx_a": "[header] How to wave [title] Raise a hand.",
    "ctx_b": "then your ARM",
    "endings": ["[substeps] Up.", "sinks  down.", "sings.", "is a boat."],
    "label": "1",
}
LINES = "Waving: A man lifts his hand. he\n2\ndrinks it.\nis a boat.\nwaves it.\ncooks it.\n"


def test_a_row_becomes_a_problem_as_in_lm_evaluation_harness(place: Any) -> None:
    assert hellaswag.from_row(ROW, place("val")) == Problem(
        id="val-7",
        question="Personal Care: How to wave. Raise a hand. Then your arm",
        answer="B",
        kind="choice",
        choices=(" Up.", "sinks down.", "sings.", "is a boat."),
    )
    assert hellaswag.from_row({**ROW, "ctx_b": "", "ctx_a": "A man", "label": 0}, place()).question.endswith(": A man")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": ""}, "label '' is not the position of an ending"),
        ({"label": "4"}, "label '4' is not the position of an ending"),
        ({"endings": ["a", "b", "c"]}, "endings: expected 4, got 3"),
        ({"endings": ["a", "b", "c", "[d]"]}, "the situation or an ending is empty"),
        ({"endings": ["a", "b", "c", None]}, "endings: expected text"),
        ({"ctx_a": "", "ctx_b": " "}, "ctx_a and ctx_b are both empty"),
        ({"activity_label": None}, "activity_label: expected text"),
    ],
)
def test_broken_rows(place: Any, change: dict[str, Any], message: str) -> None:
    with pytest.raises(RowError, match=message):
        hellaswag.from_row({**ROW, **change}, place())


def test_text_files(load_files: Any) -> None:
    splits = load_files("hellaswag", {"hellaswag/hellaswag_val_first2000.txt": LINES * 3})
    assert (len(splits.train), len(splits.test)) == (0, 3)
    assert (splits.test[1].id, splits.test[1].answer, splits.test[1].choices[2]) == ("val-7", "C", "waves it.")
    assert splits.test[1].question == "Waving: A man lifts his hand. he", "the text stays as it is published"
    with pytest.raises(UserError, match=r"line 7: expected 6 lines, got 2"):
        load_files("hellaswag", {"hellaswag/hellaswag_val_first2000.txt": LINES + "a\n1\n"})


def test_published_files_train_and_are_tested_on_the_validation_split(load_files: Any) -> None:
    rows = [{**ROW, "ctx_a": f"Man {i}"} for i in range(40)]
    files = {"hellaswag/hellaswag_train.jsonl": rows, "hellaswag/hellaswag_val.jsonl": rows[:2]}
    splits = load_files("hellaswag", files)
    assert len(splits.test) == 2 and len(splits.train) + len(splits.validation) == 38
