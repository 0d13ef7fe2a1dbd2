from __future__ import annotations

from typing import Any

import pytest

from markov_cot.data.benchmarks import gsm8k
from markov_cot.data.fields import RowError
from markov_cot.data.problem import Problem
from markov_cot.utils.errors import UserError

ROW = {
    "question": "Natalia sold clips to 48 friends in April, and half as many in May. How many altogether?",
    "answer": "She sold 48/2 = <<48/2=24>>24 clips in May.\nShe sold 48+24 = <<48+24=72>>72 altogether.\n#### 72",
}


def numbered(count: int, word: str) -> list[dict[str, str]]:
    return [{"question": f"{word} {i}?", "answer": f"x\n#### {i}"} for i in range(count)]


def test_a_row_becomes_a_problem(place: Any) -> None:
    assert gsm8k.from_row(ROW, place()) == Problem(
        id="dev-7",
        question=ROW["question"],
        answer="72",
        kind="numeric",
        rationale="She sold 48/2 = 24 clips in May.\nShe sold 48+24 = 72 altogether.",
        solution=ROW["answer"],
    )


@pytest.mark.parametrize(("gold", "expected"), [("70,000", "70000"), (" -5", "-5"), ("3.5", "3.5"), ("$20", "20")])
def test_golds(place: Any, gold: str, expected: str) -> None:
    assert gsm8k.from_row({"question": "q", "answer": f"so ####{gold}"}, place()).answer == expected


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"question": "q"}, r"field 'answer' is missing \(the row has question\)"),
        ({"question": " ", "answer": "#### 1"}, "question is empty"),
        ({"question": "q", "answer": "72"}, "answer: has no '####' before the final number"),
        ({"question": "q", "answer": "x\n#### many"}, "answer after '####' 'many' is not a number"),
        ({"question": "q", "answer": "x\n####"}, "answer after '####' is empty"),
    ],
)
def test_broken_rows(place: Any, row: Any, message: str) -> None:
    with pytest.raises(RowError, match=message):
        gsm8k.from_row(row, place())


def test_original_files(load_files: Any) -> None:
    splits = load_files("gsm8k", {"gsm8k/train.jsonl": numbered(40, "train"), "gsm8k/test.jsonl": numbered(3, "test")})
    assert len(splits.train) + len(splits.validation) == 40 and splits.validation
    assert [p.id for p in splits.test] == ["test-1", "test-2", "test-3"]
    assert splits.source.endswith("gsm8k")


def test_hub_form(load_hub: Any) -> None:
    splits = load_hub("gsm8k", "openai/gsm8k", "main", {"train": numbered(40, "train"), "test": [ROW]})
    assert len(splits.train) + len(splits.validation) == 40
    assert splits.test[0].answer == "72" and splits.source == "hub:openai/gsm8k (main)"


def test_messages_name_file_line_and_reason(load_files: Any, load_hub: Any) -> None:
    rows = [*numbered(2, "q"), {"question": "q", "answer": "none"}]
    with pytest.raises(UserError) as raised:
        load_files("gsm8k", {"train.jsonl": rows})
    assert str(raised.value).endswith(
        "train.jsonl line 3: answer: has no '####' before the final number; fix the row or pass --skip-bad-rows"
    )
    with pytest.raises(UserError) as raised:
        load_hub("gsm8k", "openai/gsm8k", "main", {"train": numbered(2, "q"), "test": rows})
    assert str(raised.value) == (
        "hub:openai/gsm8k (main) row 3 of split test: answer: has no '####' before the final number; "
        "fix the row or pass --skip-bad-rows"
    )
