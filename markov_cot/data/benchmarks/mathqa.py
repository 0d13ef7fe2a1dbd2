"""MathQA: AQuA's questions cleaned and annotated (Amini et al. 2019). Both forms have the same fields.

`options` is text, in the real files of four makes: "a ) 24 , b ) 120 , ...", the same with doubled labels
("a ) a ) 3 , b ) 2"), a Python list of labelled options, and either of them with commas inside options ("1,001").
"""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

from markov_cot.data.dataset import Dataset, RowContext, SplitFiles, one, split_files
from markov_cot.data.fields import RowError, as_object, choice_letter, choice_texts, optional_text, shown, text
from markov_cot.data.hub import Hub
from markov_cot.data.problem import Problem
from markov_cot.grading.kinds import LABELS

_LABELS = LABELS.lower()
_SECOND_LABEL = re.compile(r"^[a-e] ?\)\s*")


def from_row(row: Any, place: RowContext) -> Problem:
    """`correct` is a lower-case letter."""
    row = as_object(row)
    choices = choice_texts(parse_options(text(row, "options")), "options")
    return Problem(
        id=place.id,
        question=text(row, "Problem"),
        answer=choice_letter(text(row, "correct"), _LABELS[: len(choices)], "correct"),
        kind="choice",
        choices=choices,
        rationale=optional_text(row, "Rationale"),
    )


def parse_options(options: str) -> list[str]:
    """The options' texts without labels. Labels are looked for in order, and only where an option can start."""
    parts = _literal_list(options) if options.startswith("[") else _cut_at_labels(options)
    bare = []
    for label, part in zip(_LABELS, parts, strict=False):
        if not part.startswith((f"{label} )", f"{label})")):
            raise RowError(f"options: {shown(part)} does not start with the label '{label} )'")
        bare.append(_SECOND_LABEL.sub("", part.partition(")")[2].strip()))
    return bare + parts[len(bare) :]


def _literal_list(options: str) -> list[str]:
    try:
        values = ast.literal_eval(options)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        raise RowError(f"options: {shown(options)} is not a list") from None
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise RowError(f"options: {shown(options)} is not a list of texts")
    return values


def _cut_at_labels(options: str) -> list[str]:
    parts, start = [], 0
    for label in _LABELS[1:]:
        following = re.compile(rf"\s*,\s*(?={label} ?\))").search(options, start)
        if not following:
            break
        parts.append(options[start : following.start()])
        start = following.end()
    return [*parts, options[start:]]


def _files(folder: Path, subsets: tuple[str, ...]) -> list[SplitFiles]:
    return split_files(
        folder,
        ("train", "train", ("train.json",)),
        ("dev", "validation", ("dev.json", "validation.json")),
        ("test", "test", ("test.json",)),
    )


MATHQA = Dataset(
    name="mathqa",
    kind="choice",
    folder="mathqa",
    files=_files,
    # allenai/math_qa needs a loading script, which `datasets` 4 and later refuse; the second is its copy as tables.
    hub=lambda subsets: Hub(
        ("allenai/math_qa", "regisss/math_qa"), None, {"train": "train", "validation": "validation", "test": "test"}
    ),
    original=one(from_row),
    hub_form=one(from_row),
)
