from __future__ import annotations

import json
from typing import Any

import pytest

from markov_cot.data.benchmarks import svamp
from markov_cot.data.fields import RowError

ROW = {
    "ID": "chal-1",
    "Body": "Each pack of dvds costs 76 dollars. If there is a discount of 25 dollars on each pack",
    "Question": "How much do you have to pay to buy each pack?",
    "Equation": "( 76.0 - 25.0 )",
    "Answer": 51.0,
    "Type": "Subtraction",
}


def test_a_row_becomes_a_problem(place: Any) -> None:
    problem = svamp.from_row(ROW, place())
    assert problem.id == "chal-1" and problem.kind == "numeric" and problem.answer == "51"
    assert problem.question == (
        "Each pack of dvds costs 76 dollars. If there is a discount of 25 dollars on each pack, "
        "how much do you have to pay to buy each pack?"
    )


@pytest.mark.parametrize(
    ("body", "joined"),
    [
        ("He had 3.", "He had 3. How many?"),
        ("He had 3", "He had 3. How many?"),
        ("Is it 3?", "Is it 3? How many?"),
        ("If he had 3", "If he had 3, how many?"),
        ("He ran. If he had 3", "He ran. If he had 3, how many?"),
        ("If he ran. Then he had 3", "If he ran. Then he had 3. How many?"),
        ("He had 3,", "He had 3, how many?"),
    ],
)
def test_story_and_question_are_joined(body: str, joined: str) -> None:
    assert svamp.join(body, "How many?") == joined


@pytest.mark.parametrize("missing", ["Body", "Question", "Answer"])
def test_every_field_is_needed(place: Any, missing: str) -> None:
    with pytest.raises(RowError, match=f"field '{missing}' is missing"):
        svamp.from_row({name: value for name, value in ROW.items() if name != missing}, place())


def test_original_file(load_files: Any) -> None:
    rows = [{**ROW, "ID": f"chal-{i}", "Body": f"He had {i}."} for i in range(60)]
    splits = load_files("svamp", {"svamp/SVAMP.json": json.dumps(rows)})
    assert len(splits.train) + len(splits.validation) + len(splits.test) == 60
    assert splits.train and splits.validation and splits.test


def test_hub_form(load_hub: Any) -> None:
    """The hub's answers are text, and it has a column with story and question joined."""
    rows = [{**ROW, "Answer": "51.0", "question_concat": "x", "Body": f"He had {i}."} for i in range(20)]
    splits = load_hub("svamp", "ChilleD/SVAMP", None, {"train": rows, "test": [{**rows[0], "Body": "Else."}]})
    assert len(splits.train) + len(splits.validation) == 20
    assert [p.answer for p in splits.test] == ["51"]
