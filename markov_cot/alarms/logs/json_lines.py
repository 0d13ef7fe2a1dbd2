"""JSONL files line by line: a faulty line is named, and a last one that was cut off is left out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markov_cot.utils.errors import UserError

Row = dict[str, Any]


@dataclass(slots=True)
class JsonLines:
    """The rows of a file."""

    path: Path
    torn: bool = False
    """Whether the last line that was read was cut off in the middle."""

    def rows(self) -> Iterator[tuple[int, Row]]:
        """Yield line numbers, from 1, and objects; blank lines are passed over."""
        self.torn = False
        try:
            with self.path.open("rb") as file:
                for number, line in enumerate(file, 1):
                    if not line.strip():
                        continue
                    row = self._parse(number, line)
                    if row is not None:
                        yield number, row
        except OSError as error:
            raise UserError(f"log {self.path}: cannot be read ({error.strerror})") from None

    def fault(self, number: int, what: str) -> UserError:
        """Return the error of a line."""
        return UserError(f"log {self.path} line {number}: {what}")

    def _parse(self, number: int, line: bytes) -> Row | None:
        try:
            row = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
        except (ValueError, RecursionError) as error:
            if number > 1 and line.startswith(b"{") and not line.endswith(b"\n"):
                self.torn = True
                return None
            reason = error.msg if isinstance(error, json.JSONDecodeError) else "unreadable"
            raise self.fault(number, f"is not JSON ({reason})") from None
        if not isinstance(row, dict):
            raise self.fault(number, "is not a JSON object, which a row of a log is")
        return row


def lenient_rows(path: Path) -> Iterator[Row]:
    """Yield the objects of a file, passing over all that is none; nothing where it cannot be read."""
    try:
        with path.open("rb") as file:
            for line in file:
                try:
                    row = json.loads(line)
                except (ValueError, RecursionError):
                    continue
                if isinstance(row, dict):
                    yield row
    except OSError:
        return
