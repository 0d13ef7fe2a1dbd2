"""Rows of CSV files, in which every cell is text: an empty one is absent, and lists are written out."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from typing import Any

from markov_cot.data.dataset import RowContext
from markov_cot.data.fields import RowError, shown
from markov_cot.data.jsonl import CHOICES, from_row
from markov_cot.data.problem import Problem
from markov_cot.data.reading import Twice, parse_json
from markov_cot.grading.kinds import LETTERS

SEPARATOR = "|"
_POSITION = re.compile(r"\s*[0-9]{1,3}\s*")


def from_cells(row: Mapping[str, str], place: RowContext) -> Problem:
    """As `jsonl.from_row`. Choices are a JSON list in one cell, texts separated by "|", or columns A, B, C ...

    With such columns the answer is no position: they might be anything, and a number any number.
    """
    cells: dict[str, Any] = {name: cell for name, cell in row.items() if cell.strip()}
    for name in CHOICES:
        if name in cells:
            cells[name] = _list(cells[name], name)
    if any(name in cells for name in CHOICES):
        if _POSITION.fullmatch(cells.get("answer", "")):
            cells["answer"] = int(cells["answer"])
    elif "A" in row and "B" in row:
        cells["choices"] = _columns(row, cells)
    return from_row(cells, place)


def _list(cell: str, name: str) -> Any:
    """The choices in a cell, which may be JSON or, as pandas writes lists, Python."""
    cell = cell.strip()
    if cell[0] not in "[{":
        if SEPARATOR not in cell:
            raise RowError(f"{name}: {shown(cell)} is neither a JSON list nor texts separated by {SEPARATOR!r}")
        return [part.strip() for part in cell.split(SEPARATOR)]
    try:
        value = parse_json(cell)
    except (ValueError, RecursionError):
        value = _python(cell, name)
    if isinstance(value, Twice):
        raise RowError(f"{name}: the key {value.key!r} is there twice")
    return value


def _python(cell: str, name: str) -> Any:
    try:
        return ast.literal_eval(cell)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        raise RowError(f"{name}: {shown(cell)} is not a JSON list") from None


def _columns(row: Mapping[str, str], cells: Mapping[str, str]) -> list[str]:
    """The choices in columns A, B, C and so on; the last of them may be empty."""
    columns = [letter for letter in LETTERS if letter in row]
    choices = [cells[letter] for letter in columns if letter in cells]
    if "".join(columns) != LETTERS[: len(columns)] or any(letter not in cells for letter in columns[: len(choices)]):
        raise RowError(f"choices: columns {', '.join(columns)} leave one out; fill A, B, C ... in their order")
    return choices
