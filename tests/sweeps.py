"""Sweeps made up for the tests of their analysis."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from markov_cot.analysis.sweep_columns import Asked, find_columns, with_steps
from markov_cot.analysis.sweep_rows import Rows
from markov_cot.analysis.sweep_table import SweepTable, build_table


def rows_of(columns: str, *rows: Sequence[object]) -> Rows:
    """Rows with the columns that a text names, with blanks between them."""
    names = tuple(columns.split())
    cells = tuple(dict(zip(names, map(str, row), strict=True)) for row in rows)
    return Rows("table", names, cells, tuple(f"row {i}" for i in range(1, len(rows) + 1)), {})


def table_of(columns: str, *rows: Sequence[object], asked: Asked | None = None) -> SweepTable:
    """The table that such rows make."""
    read = with_steps(rows_of(columns, *rows), asked or Asked())
    return build_table(read, find_columns(read, asked or Asked()))


def write_csv(path: Path, columns: str, *rows: Sequence[object]) -> Path:
    """A file of such rows."""
    lines = [",".join(columns.split()), *(",".join(map(str, row)) for row in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


SQUARE = ("a b score", (0, 0, 1), (0, 1, 3), (1, 0, 5), (1, 1, 11))
"""Two settings of two levels, one run each. Mean 5; SS: total 56, a 36, b 16, a x b 4."""

STEPS = (
    "run a step score",
    *(("r1", 0, 10, 1), ("r1", 0, 20, 3), ("r2", 0, 10, 3), ("r2", 0, 20, 5)),
    *(("r3", 1, 10, 5), ("r3", 1, 20, 9), ("r4", 1, 10, 7), ("r4", 1, 20, 7)),
)
"""One setting, two runs of each level, two steps. Run means 2, 4 and 7, 7; SS: total 48, a 32, step 8, a x step 0."""
