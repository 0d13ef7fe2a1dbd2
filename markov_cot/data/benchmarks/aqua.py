"""AQuA-RAT: algebra questions with five options (Ling et al. 2017). Both forms have the same fields."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from markov_cot.data.dataset import Dataset, RowContext, SplitFiles, one, split_files
from markov_cot.data.fields import (
    RowError,
    as_object,
    choice_letter,
    choice_texts,
    clean_text,
    optional_text,
    shown,
    text,
    texts,
)
from markov_cot.data.hub import Hub
from markov_cot.data.problem import Problem
from markov_cot.grading.kinds import LABELS

_OPTION = re.compile(r"\(?([A-Z])\s*\)\s*(.*)", re.DOTALL)
# A few questions have each label twice: "A)A)59".
_REPEATED = [re.compile(rf"(?:\(?[{letter}{letter.lower()}]\s*\)\s*)+(?=\S)") for letter in LABELS]


def from_row(row: Any, place: RowContext) -> Problem:
    """`options` are "A)32400", "B)6000" and so on; `correct` is a letter."""
    row = as_object(row)
    choices = choice_texts(options(texts(row, "options")), "options")
    return Problem(
        id=place.id,
        question=text(row, "question"),
        answer=choice_letter(text(row, "correct"), LABELS[: len(choices)], "correct"),
        kind="choice",
        choices=choices,
        rationale=optional_text(row, "rationale"),
    )


def options(labelled: list[Any]) -> list[str]:
    """The options' texts; their labels must be A, B, C and so on."""
    bare = []
    for position, option in enumerate(labelled):
        match = _OPTION.fullmatch(clean_text(option, f"options: number {position + 1}"))
        if not match:
            raise RowError(f"options: {shown(option)} does not start with a label such as 'A)'")
        if match[1] != LABELS[position : position + 1]:
            raise RowError(f"options: number {position + 1} is labelled {match[1]}; expected A, B, C ... up to E")
        bare.append(_REPEATED[position].sub("", match[2]))
    return bare


def _files(folder: Path, subsets: tuple[str, ...]) -> list[SplitFiles]:
    return split_files(
        folder,
        ("train", "train", ("train.json", "train.jsonl")),
        ("dev", "validation", ("dev.json", "dev.jsonl", "validation.json", "validation.jsonl")),
        ("test", "test", ("test.json", "test.jsonl")),
    )


AQUA = Dataset(
    name="aqua",
    kind="choice",
    folder="aqua",
    files=_files,
    hub=lambda subsets: Hub(
        ("deepmind/aqua_rat",), "raw", {"train": "train", "validation": "validation", "test": "test"}
    ),
    original=one(from_row),
    hub_form=one(from_row),
)
