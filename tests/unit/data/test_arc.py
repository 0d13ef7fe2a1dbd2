from __future__ import annotations

from typing import Any

import pytest

from markov_cot.data.benchmarks import arc
from markov_cot.data.fields import RowError


def original(labels: str = "ABCD", key: str = "B", stem: str = "Which?", **change: Any) -> dict[str, Any]:
    choices = [{"text": f"text {label}", "label": label} for label in labels]
    return {"id": "M1", "question": {"stem": stem, "choices": choices}, "answerKey": key, **change}


def hub(labels: str = "ABCD", key: str = "B", question: str = "Which?") -> dict[str, Any]:
    choices = {"text": [f"text {label}" for label in labels], "label": list(labels)}
    return {"id": "M1", "question": question, "choices": choices, "answerKey": key}


@pytest.mark.parametrize(
    ("labels", "key", "answer"),
    [
        ("ABCD", "B", "B"),
        ("1234", "4", "D"),
        ("ABC", "C", "C"),
        ("ABCDE", "E", "E"),
        ("12345", "5", "E"),
        ("123", "1", "A"),
    ],
)
def test_both_forms_give_the_same_problem(place: Any, labels: str, key: str, answer: str) -> None:
    problem = arc.from_original(original(labels, key), place())
    assert problem == arc.from_hub(hub(labels, key), place())
    assert (problem.id, problem.question, problem.answer, problem.kind) == ("M1", "Which?", answer, "choice")
    assert problem.choices == tuple(f"text {label}" for label in labels)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (original("AB", "A"), "expected 3 to 5 choices, got 2"),
        (original("ABCDEF", "A"), "expected 3 to 5 choices, got 6"),
        (original("ABCD", "E"), "answerKey 'E' is not among the choices' labels A, B, C, D"),
        (original("1234", "A"), "answerKey 'A' is not among the choices' labels 1, 2, 3, 4"),
        (original("ACBD", "A"), "labels are A, C, B, D; expected A, B, C ... or 1, 2, 3"),
        (original("ABC", " "), "answerKey is empty"),
        (original(question="Which?"), "expected an object with fields, got text"),
        (original(question={"stem": "Which?"}), "field 'choices' is missing"),
        (
            original(question={"stem": "W", "choices": [{"label": "A"}] * 3}),
            r"choice A: expected text, got nothing \(null\)",
        ),
        ({"id": "M1", "answerKey": "A"}, r"expected an object with fields, got nothing \(null\)"),
    ],
)
def test_broken_rows(place: Any, row: dict[str, Any], message: str) -> None:
    with pytest.raises(RowError, match=message):
        arc.from_original(row, place())


def numbered(make: Any, count: int, word: str) -> list[dict[str, Any]]:
    return [make("ABCD", "A", f"{word} {i}?") for i in range(count)]


@pytest.mark.parametrize("folder", ["arc/", "arc/ARC-Challenge/"])
def test_original_files(load_files: Any, folder: str) -> None:
    files = {
        f"{folder}ARC-Challenge-Train.jsonl": numbered(original, 30, "train"),
        f"{folder}ARC-Challenge-Dev.jsonl": numbered(original, 5, "dev"),
        "arc/ARC-Easy-Dev.jsonl": numbered(original, 20, "easy"),
    }
    splits = load_files("arc", files)
    assert len(splits.train) + len(splits.validation) == 30
    assert [p.question for p in splits.test] == [f"dev {i}?" for i in range(5)]
    assert "no published test split was found; trains on Train, evaluates on Dev" in splits.note
    easy = load_files("arc", {}, subset="easy")
    assert all(p.question.startswith("easy") for p in (*easy.train, *easy.validation, *easy.test))


@pytest.mark.parametrize(
    ("subset", "config"), [(None, "ARC-Challenge"), ("challenge", "ARC-Challenge"), ("easy", "ARC-Easy")]
)
def test_hub_form(load_hub: Any, subset: str | None, config: str) -> None:
    tables = {"train": numbered(hub, 6, "a"), "validation": numbered(hub, 2, "b"), "test": numbered(hub, 3, "c")}
    splits = load_hub("arc", "allenai/ai2_arc", config, tables, subset=subset)
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (6, 2, 3)
