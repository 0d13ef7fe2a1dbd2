"""A sweep as it is read: named columns of text, from a CSV file or (`sweep_runs.py`) a folder of runs."""

from __future__ import annotations

import difflib
import hashlib
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from markov_cot.data.tables import CELL_SUFFIXES, rows_of, suffix_of
from markov_cot.utils.errors import UserError

INDEX_COLUMNS = ("", "Unnamed: 0")
"""Names of a first column in which pandas has written row numbers."""


@dataclass(frozen=True, slots=True)
class Known:
    """What each column is, where that need not be inferred."""

    run: str
    step: str | None
    metric: str
    settings: tuple[str, ...]
    """Columns that may be settings."""
    seeds: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Rows:
    """One row a run, or a run's checkpoint."""

    source: str
    columns: tuple[str, ...]
    cells: tuple[Mapping[str, str], ...]
    """Each row's text by column; "" where there is none."""
    places: tuple[str, ...]
    """Where each row is, for messages."""
    inputs: Mapping[str, str]
    """SHA-256 of each file that was read."""
    known: Known | None = None
    notes: tuple[str, ...] = ()

    def column(self, name: str) -> list[str]:
        """Return a column's text, a cell a row."""
        return [cells[name] for cells in self.cells]

    def check(self, name: str, option: str) -> None:
        """Raise `UserError` unless there is a column of that name."""
        if name not in self.columns:
            raise UserError(f"{option} {name}: {self.source} has no such column{nearest(name, self.columns)}")

    def keep(self, indices: Iterable[int]) -> Rows:
        """Return some of the rows."""
        kept = list(indices)
        return replace(self, cells=tuple(self.cells[i] for i in kept), places=tuple(self.places[i] for i in kept))


@dataclass(frozen=True, slots=True)
class Condition:
    """One `--where`."""

    column: str
    value: str
    is_equal: bool

    def holds(self, cells: Mapping[str, str]) -> bool:
        """Return whether a row is kept. Numbers are compared as numbers: 1e-5 is 0.00001."""
        own, other = number(cells[self.column]), number(self.value)
        is_same = cells[self.column] == self.value if own is None or other is None else own == other
        return is_same is self.is_equal


def read_csv(path: Path) -> Rows:
    """Return a CSV or TSV file's rows. Raises `UserError` for a file that is no such table, or has no rows."""
    if not path.exists():
        raise UserError(f"{path}: does not exist; name a folder of runs, or a .csv or .tsv file")
    if suffix_of(path.name) not in CELL_SUFFIXES:
        raise UserError(f"{path}: is neither a folder of runs nor a .csv or .tsv file; name one of these")
    cells, places = [], []
    for row in rows_of(path):
        if row.fault:
            raise UserError(f"{path} line {row.number}: {row.fault}; correct the file")
        cells.append({_line(name): _line(cell) for name, cell in row.value.items() if name not in INDEX_COLUMNS})
        places.append(f"{path} line {row.number}")
    if not cells:
        raise UserError(f"{path}: has no rows under a header; name a table with a row for each run or checkpoint")
    return Rows(str(path), tuple(cells[0]), tuple(cells), tuple(places), {str(path): sha256_of(path)})


def _line(text: str) -> str:
    return " ".join(text.split())


def parse_condition(text: str) -> Condition:
    """Return what `--where COLUMN=VALUE` or `COLUMN!=VALUE` asks. Raises `UserError` for anything else."""
    found = re.fullmatch(r"(.+?)(!?=)(.*)", text, re.DOTALL)
    if not found:
        raise UserError(f"--where {text}: expected COLUMN=VALUE or COLUMN!=VALUE, as in --where rank!=64")
    column, operator, value = found.groups()
    return Condition(column.strip(), value.strip(), operator == "=")


def where(rows: Rows, conditions: Sequence[str]) -> Rows:
    """Return the rows for which all conditions hold. Raises `UserError` for an unknown column, or if none is left."""
    for text in conditions:
        condition = parse_condition(text)
        rows.check(condition.column, "--where")
        kept = [i for i, cells in enumerate(rows.cells) if condition.holds(cells)]
        if not kept:
            there = ", ".join(repr(value) for value in list(dict.fromkeys(rows.column(condition.column)))[:8])
            raise UserError(f"--where {text}: leaves none of the {len(rows.cells)} rows; {condition.column} is {there}")
        rows = rows.keep(kept)
    return rows


def number(text: str) -> float | None:
    """Return the finite number that a cell holds, or None.

    >>> number("1e-5"), number("nan"), number("default")
    (1e-05, None, None)
    """
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and "_" not in text else None


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def nearest(name: str, among: Sequence[str]) -> str:
    """Return the end of a message: the closest name, or some of those there are."""
    close = difflib.get_close_matches(name, among, n=1)
    if close:
        return f"; did you mean {close[0]}?"
    more = "" if len(among) <= 12 else ", ..."
    return f"; there are {', '.join(among[:12])}{more}"


def listed(names: Sequence[str], most: int = 3) -> str:
    """Return some names as the middle of a sentence.

    >>> listed(["a", "b", "c", "d"])
    'a, b, c and 1 more'
    """
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")
