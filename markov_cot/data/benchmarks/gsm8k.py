"""GSM8K: grade-school word problems (Cobbe et al. 2021). Both forms have the same fields."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from markov_cot.data.dataset import Dataset, RowContext, SplitFiles, one, split_files
from markov_cot.data.fields import RowError, as_object, number_text, text
from markov_cot.data.hub import Hub
from markov_cot.data.problem import Problem

_CALCULATOR = re.compile(r"<<[^<>]*>>")


def from_row(row: Any, place: RowContext) -> Problem:
    """`answer` is the solution, "####" and the number; the rationale is without <<48/2=24>> annotations."""
    row = as_object(row)
    published = text(row, "answer")
    solution, mark, gold = published.rpartition("####")
    if not mark:
        raise RowError("answer: has no '####' before the final number")
    return Problem(
        id=place.id,
        question=text(row, "question"),
        answer=number_text(gold, "answer after '####'"),
        kind="numeric",
        rationale=_CALCULATOR.sub("", solution).strip(),
        solution=published,
    )


def _files(folder: Path, subsets: tuple[str, ...]) -> list[SplitFiles]:
    return split_files(folder, ("train", "train", ("train.jsonl",)), ("test", "test", ("test.jsonl",)))


GSM8K = Dataset(
    name="gsm8k",
    kind="numeric",
    folder="gsm8k",
    files=_files,
    hub=lambda subsets: Hub(("openai/gsm8k",), "main", {"train": "train", "test": "test"}, ("socratic",)),
    original=one(from_row),
    hub_form=one(from_row),
)
