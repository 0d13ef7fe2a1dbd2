from __future__ import annotations

from typing import Any

import pytest

from markov_cot.data.benchmarks import mmlu
from markov_cot.data.fields import RowError
from markov_cot.data.problem import Problem
from markov_cot.utils.errors import UserError


def csv_file(word: str, count: int) -> str:
    return "".join(f'"{word} {i}, which?",w,"x, y",z,"a\nb",B\n' for i in range(count))


def hub(subject: str, word: str, count: int) -> list[dict[str, Any]]:
    choices = ["w", "x, y", "z", "v"]
    return [{"question": f"{word} {i}?", "subject": subject, "choices": choices, "answer": 1} for i in range(count)]


def test_an_original_row_becomes_a_problem(place: Any) -> None:
    row = ["Which?", "w", "x", "y", "z", "C"]
    assert mmlu.from_original(row, place("val", "anatomy_val.csv")) == Problem(
        id="anatomy-val-7",
        question="Which?",
        answer="C",
        kind="choice",
        choices=("w", "x", "y", "z"),
        subject="anatomy",
    )
    assert mmlu.from_original(row, place("auxiliary_train", "race.csv")).subject == ""


def test_a_hub_row_becomes_a_problem(place: Any) -> None:
    (problem,) = mmlu.from_hub(hub("anatomy", "q", 1)[0], place("validation"))
    assert (problem.answer, problem.subject, problem.id) == ("B", "anatomy", "anatomy-validation-7")
    assert not mmlu.from_hub(hub("anatomy", "q", 1)[0], place("validation", subsets=("virology",)))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (["q", "w", "x", "y", "z"], r"expected 6 columns \(question, 4 choices, answer\), got 5"),
        (["q", "w", "x", "y", "z", "E"], "answer 'E' is not among the choices' labels A, B, C, D"),
        (["q", "w", "x", "y", "z", ""], "answer is empty"),
        (["", "w", "x", "y", "z", "A"], "question is empty"),
        (["q", "w", "", "y", "z", "A"], "choice B is empty"),
    ],
)
def test_broken_original_rows(place: Any, row: list[str], message: str) -> None:
    with pytest.raises(RowError, match=message):
        mmlu.from_original(row, place("val", "anatomy_val.csv"))


@pytest.mark.parametrize("answer", [4, -1, "B", None, True])
def test_broken_hub_rows(place: Any, answer: Any) -> None:
    with pytest.raises(RowError, match="is not the position of a choice, 0 to 3"):
        mmlu.from_hub({**hub("anatomy", "q", 1)[0], "answer": answer}, place())


FILES = {
    "mmlu/dev/anatomy_dev.csv": csv_file("dev anatomy", 5),
    "mmlu/dev/virology_dev.csv": csv_file("dev virology", 5),
    "mmlu/val/anatomy_val.csv": csv_file("val anatomy", 3),
    "mmlu/val/virology_val.csv": csv_file("val virology", 4),
}


def test_original_files_without_a_training_set(load_files: Any) -> None:
    splits = load_files("mmlu", FILES)
    assert len(splits.train) + len(splits.validation) == 10 and len(splits.test) == 7
    assert {p.subject for p in splits.test} == {"anatomy", "virology"}
    assert splits.note.startswith("no published training split was found; trains on dev, evaluates on val")


def test_original_files_with_all_sets(load_files: Any) -> None:
    more = {"mmlu/test/anatomy_test.csv": csv_file("t", 2), "mmlu/auxiliary_train/race.csv": csv_file("aux", 6)}
    splits = load_files("mmlu", FILES | more)
    assert (len(splits.train), len(splits.validation), len(splits.test), splits.note) == (6, 7, 2, "")


def test_subjects_are_chosen(load_files: Any) -> None:
    splits = load_files("mmlu", FILES | {"mmlu/auxiliary_train/race.csv": csv_file("aux", 6)}, subset=" virology ")
    assert {p.subject for p in splits.test} == {"virology"}
    assert {p.subject for p in splits.train} == {""}  # the auxiliary set belongs to no subject
    assert len(load_files("mmlu", {}, subset="virology,anatomy").test) == 7
    with pytest.raises(UserError, match=r"data\.subset 'virolgy': not in mmlu; did you mean virology"):
        load_files("mmlu", {}, subset="anatomy,virolgy")


def test_hub_form(load_hub: Any) -> None:
    tables = {
        "auxiliary_train": hub("", "aux", 6),
        "dev": hub("anatomy", "dev", 5),
        "validation": hub("anatomy", "val", 3) + hub("virology", "val v", 4),
        "test": hub("anatomy", "test", 2) + hub("virology", "test v", 2),
    }
    splits = load_hub("mmlu", "cais/mmlu", "all", tables)
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (6, 7, 4)
    splits = load_hub("mmlu", "cais/mmlu", "all", tables, subset="anatomy")
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (6, 3, 2)


def test_a_broken_row_is_found_after_quoted_line_breaks(load_files: Any) -> None:
    """Every row of `csv_file` takes two lines, so the fourth row starts on line 7."""
    with pytest.raises(UserError, match=r"anatomy_val.csv line 7: expected 6 columns .*, got 2; fix the row"):
        load_files("mmlu", {**FILES, "mmlu/val/anatomy_val.csv": csv_file("v", 3) + "a,b\n"})


def test_there_are_57_subjects() -> None:
    assert len(set(mmlu.SUBJECTS)) == 57
