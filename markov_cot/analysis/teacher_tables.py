"""Reads tables of teachers: a CSV file with a row for each, or for each with every student."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from markov_cot.analysis.sweep_rows import INDEX_COLUMNS, nearest, number, sha256_of
from markov_cot.data.tables import CELL_SUFFIXES, rows_of, suffix_of
from markov_cot.utils.errors import UserError

TEACHERS = ("teacher", "generator", "response_generator", "model", "name")
"""What the column of teachers' names is looked for as."""
STUDENTS = ("student", "base_model", "base", "student_model")
LARGEST = 1e100
"""Of numbers, so that they can be summed."""
OUTCOMES = ("outcome", "ap", "score", "accuracy", "average", "performance")


@dataclass(frozen=True)
class TeacherTable:
    """Rows of a CSV file, each a teacher's, or a teacher's with one of several students."""

    source: str
    sha256: str
    teacher_column: str
    student_column: str | None
    teachers: Sequence[str]
    """Of each row."""
    students: Sequence[str]
    """Of each row; all empty where the table has none."""
    numbers: Mapping[str, Sequence[float]]
    """Columns of numbers."""
    left_out: Sequence[str]
    """Columns of neither names nor numbers."""

    def column(self, spec: str, option: str) -> list[float]:
        """Return a column, or of "a,b" the mean of several. Raises `UserError` where there is none of that name."""
        names = [name.strip() for name in spec.split(",")]
        for name in names:
            if name not in self.numbers:
                raise UserError(
                    f"{option} {name}: {self.source} has no such numbers{nearest(name, list(self.numbers))}"
                )
        return [math.fsum(cells) / len(names) for cells in zip(*(self.numbers[name] for name in names), strict=True)]


def read_table(path: Path, teacher: str | None = None, student: str | None = None) -> TeacherTable:
    """Return a table. Columns that are not named are found by name, or because they are the only text.

    Raises `UserError` for a file that is no such table, for cells that are no numbers among numbers, and for rows that
    are there twice.
    """
    cells, lines = _cells(path)
    columns = [name for name in cells[0] if name not in INDEX_COLUMNS]
    for name, option in ((teacher, "--teacher"), (student, "--by")):
        if name is not None and name not in columns:
            raise UserError(f"{option} {name}: {path} has no such column{nearest(name, columns)}")
    texts = [name for name in columns if not _are_numbers([row[name] for row in cells])]
    student = student or _named(STUDENTS, [name for name in texts if name != teacher])
    free = [name for name in texts if name != student]
    teacher = teacher or _named(TEACHERS, [name for name in columns if name != student])
    if teacher is None and len(free) == 1:
        teacher = free[0]
    if teacher is None:
        raise UserError(f"{path}: has no column of teachers' names ({', '.join(TEACHERS)}); name it with --teacher")
    names = [row[teacher].strip() for row in cells]
    groups = [row[student].strip() if student else "" for row in cells]
    first: dict[tuple[str, str], int] = {}
    for line, pair in zip(lines, zip(names, groups, strict=True), strict=True):
        if not pair[0]:
            raise UserError(f"{path} line {line}: {teacher} is empty; name the teacher, or take the row out")
        if pair in first:
            of = f" for {pair[1]}" if pair[1] else ""
            raise UserError(f"{path} line {line}: {pair[0]}{of} is on line {first[pair]}, too; leave one of them")
        first[pair] = line
    numbers = {
        name: [_number(path, line, name, row[name]) for line, row in zip(lines, cells, strict=True)]
        for name in columns
        if name not in (teacher, student, *texts)
    }
    if not numbers:
        raise UserError(f"{path}: has no column of numbers; give metrics and outcomes, a row for each teacher")
    left_out = [name for name in texts if name not in (teacher, student)]
    return TeacherTable(str(path), sha256_of(path), teacher, student, names, groups, numbers, left_out)


def outcome_columns(table: TeacherTable, asked: Sequence[str]) -> dict[str, list[float]]:
    """Return the outcomes that are asked for, or the one called as outcomes are, or the last column."""
    specs = asked or [_named(OUTCOMES, list(table.numbers)) or list(table.numbers)[-1]]
    return {spec: table.column(spec, "--outcome") for spec in specs}


def _cells(path: Path) -> tuple[list[dict[str, str]], list[int]]:
    """The rows under the header, and their lines."""
    if path.is_dir() or suffix_of(path.name) not in CELL_SUFFIXES:
        raise UserError(f"{path}: is not a .csv or .tsv file; name a table with a row for each teacher")
    cells, lines = [], []
    for row in rows_of(path):
        if row.fault:
            raise UserError(f"{path} line {row.number}: {row.fault}; correct the file")
        cells.append(row.value)
        lines.append(row.number)
    if not cells:
        raise UserError(f"{path}: has no rows under a header; name a table with a row for each teacher")
    return cells, lines


def _named(known: Sequence[str], columns: Sequence[str]) -> str | None:
    by_name = {name.lower(): name for name in reversed(columns)}
    return next((by_name[name] for name in known if name in by_name), None)


def _are_numbers(cells: Sequence[str]) -> bool:
    """Whether most cells are numbers, so that the others are faults of theirs; NaN is a number that is a fault."""
    return 2 * sum(map(_is_number, cells)) > len(cells)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _number(path: Path, line: int, name: str, cell: str) -> float:
    value = number(cell)
    if value is None or abs(value) > LARGEST:
        raise UserError(f"{path} line {line}: {name} is {cell!r}, not a finite number; correct it, or take the row out")
    return value
