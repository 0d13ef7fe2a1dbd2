"""What transformers' Trainer prints, captured in a file: a line of Python's own notation a row, among anything else.

Since transformers 5 the values are printed as text. The rows have no step, so their numbers, from 1 as Trainer counts,
stand for it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markov_cot.alarms.logs.entry import Entry
from markov_cot.alarms.logs.names import NAMES, translate
from markov_cot.utils.errors import UserError

MARK = "{'"
_KEYS = {name.ours for name in NAMES}
_LONGEST = 100_000


@dataclass(slots=True)
class Console:
    """Such a file."""

    path: Path
    settings: dict[str, Any] | None = None
    torn: bool = False

    def entries(self) -> Iterator[Entry]:
        """Yield the rows that have a metric of training; those of evaluations and of the end have none."""
        number = 0
        for line in self._lines():
            metrics = translate(_row(line))
            if metrics.keys() & _KEYS:
                number += 1
                yield Entry(number, metrics)

    def _lines(self) -> Iterator[str]:
        try:
            with self.path.open(encoding="utf-8", errors="replace") as file:
                for line in file:
                    # A progress bar leaves a carriage return, and what it wrote before, in front of the row.
                    row = line.rpartition("\r")[2].strip()
                    if row.startswith(MARK) and len(row) < _LONGEST:
                        yield row
        except OSError as error:
            raise UserError(f"log {self.path}: cannot be read ({error.strerror})") from None


def _row(line: str) -> dict[str, Any]:
    try:
        row = ast.literal_eval(line)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return {}
    return {key: value for key, value in row.items() if isinstance(key, str)} if isinstance(row, dict) else {}
