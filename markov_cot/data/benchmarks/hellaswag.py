"""HellaSwag: which of four endings continues a situation (Zellers et al. 2019).

Texts are cleaned as lm-evaluation-harness does it. The published test split has no labels, so the validation split is
what is evaluated on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from markov_cot.data.dataset import Dataset, RowContext, SplitFiles, one, split_files
from markov_cot.data.fields import RowError, as_object, clean_text, field, shown, text, texts
from markov_cot.data.hub import Hub
from markov_cot.data.problem import Problem
from markov_cot.data.reading import Row, json_rows, read_text
from markov_cot.grading.kinds import LABELS

_ENDINGS = 4
_BRACKETED = re.compile(r"\[.*?\]")
_LINES = 2 + _ENDINGS


def from_row(row: Any, place: RowContext) -> Problem:
    """`activity_label`, `ctx_a`, `ctx_b`, `endings` and `label`, the right ending's position; or six lines of text."""
    if isinstance(row, list):
        return _problem(place, row[0], row[1], row[2:])
    row = as_object(row)
    start, rest = (str(row.get(name) or "") for name in ("ctx_a", "ctx_b"))
    if not f"{start}{rest}".strip():
        raise RowError("ctx_a and ctx_b are both empty")
    question = cleaned(f"{text(row, 'activity_label')}: {start} {rest.capitalize()}")
    return _problem(place, question, str(field(row, "label")), [_ending(each) for each in texts(row, "endings")])


def cleaned(words: str) -> str:
    """Return a text without the marks that WikiHow's pages have left in it.

    >>> cleaned(" [header] How to wave [title] Raise a hand. [step] Move  it.")
    ' How to wave. Raise a hand. Move it.'
    """
    return _BRACKETED.sub("", words.strip().replace(" [title]", ". ")).replace("  ", " ")


def _ending(value: Any) -> str:
    return cleaned(clean_text(value, "endings"))


def _problem(place: RowContext, question: str, label: str, endings: Sequence[str]) -> Problem:
    if len(endings) != _ENDINGS:
        raise RowError(f"endings: expected {_ENDINGS}, got {len(endings)}")
    if not question.strip() or not all(ending.strip() for ending in endings):
        raise RowError("the situation or an ending is empty")
    if label not in ("0", "1", "2", "3"):
        raise RowError(f"label {shown(label)} is not the position of an ending, 0 to 3")
    return Problem(place.id, question, LABELS[int(label)], "choice", tuple(endings))


def _file_rows(path: Path) -> Iterator[Row]:
    """JSONL as published; or a text file with the situation, the label and the endings, each on a line."""
    if not path.name.removesuffix(".gz").endswith(".txt"):
        yield from json_rows(path)
        return
    lines = read_text(path).rstrip("\n").split("\n")
    for first in range(0, len(lines), _LINES):
        part = lines[first : first + _LINES]
        fault = f"expected {_LINES} lines, got {len(part)}" if len(part) < _LINES else ""
        yield Row(first + 1, "line", part, fault)


def _files(folder: Path, subsets: tuple[str, ...]) -> list[SplitFiles]:
    return split_files(
        folder,
        ("train", "train", ("hellaswag_train.jsonl", "train.jsonl")),
        ("val", "test", ("hellaswag_val.jsonl", "val.jsonl", "hellaswag_val_full.txt", "hellaswag_val_first2000.txt")),
    )


HELLASWAG = Dataset(
    name="hellaswag",
    kind="choice",
    folder="hellaswag",
    files=_files,
    hub=lambda subsets: Hub(("Rowan/hellaswag",), None, {"train": "train", "validation": "test"}),
    original=one(from_row),
    hub_form=one(from_row),
    file_rows=_file_rows,
)
