"""Caches of what models produced: a row an item, appended as it is made, and read back after an interruption."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, Protocol, TypeVar

from markov_cot.utils.errors import UserError
from markov_cot.utils.files import AppendFile


class Row(Protocol):
    """What a log holds of an item."""

    @property
    def index(self) -> int:
        """The item's."""


Kept = TypeVar("Kept", bound=Row)


@dataclass(frozen=True)
class Layout(Generic[Kept]):
    """How rows are written."""

    to_json: Callable[[Kept], Mapping[str, Any]]
    from_json: Callable[[Any], Kept]
    """Raises `KeyError`, `TypeError` or `ValueError` for what is no such row."""


def fingerprint(settings: Mapping[str, Any]) -> str:
    """SHA-256 (hex) of all that an evaluation's outcome depends on."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def read_settings(path: Path) -> dict[str, Any] | None:
    """Return the settings that an evaluation's records were made under; None for a file that does not say."""
    try:
        with path.open("rb") as file:
            settings: dict[str, Any] = json.loads(file.readline())
        stored = settings.pop("fingerprint")
    except (OSError, ValueError, LookupError, AttributeError):
        return None
    return settings if stored == fingerprint(settings) else None


def read_log(path: Path, name: str, layout: Layout[Kept]) -> tuple[dict[int, Kept], int]:
    """Return the rows, by item, of the log with this fingerprint, and the bytes of its whole lines.

    Raises `UserError` when it is damaged.
    """
    rows: dict[int, Kept] = {}
    whole = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                break
            try:
                values = json.loads(line)
                if number == 1:
                    if values["fingerprint"] != name:
                        raise ValueError("another evaluation's")
                else:
                    row = layout.from_json(values)
                    rows.setdefault(row.index, row)
            except (ValueError, KeyError, TypeError):
                raise UserError(f"{path} line {number}: damaged; delete the file to evaluate again") from None
            whole += len(line)
    return rows, whole


class ItemLog(Generic[Kept]):
    """A first line with the settings that the rows were made under, then one line for each item.

    `done` holds the rows so far by their item. A last line torn by an interruption is dropped.
    """

    def __init__(self, folder: Path | None, settings: Mapping[str, Any], layout: Layout[Kept]) -> None:
        """Open the file of these settings in `folder`; without one, rows are kept in memory only.

        Raises `UserError` when the file is damaged or cannot be written.
        """
        self.done: dict[int, Kept] = {}
        self._layout = layout
        self._file: AppendFile | None = None
        if folder is None:
            return
        name = fingerprint(settings)
        self.path = folder / f"{name[:24]}.jsonl"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self.done, whole = read_log(self.path, name, layout) if self.path.exists() else ({}, 0)
            self._file = AppendFile(self.path, keep=whole)
        except OSError as error:
            raise _not_written(error, self.path) from None
        if not whole:
            self._write([{"fingerprint": name, **settings}])

    def append(self, rows: Iterable[Kept]) -> None:
        """Add rows and hand them to the operating system at once. Raises `UserError` when it does not take them."""
        new = list(rows)
        self.done |= {row.index: row for row in new}
        self._write(map(self._layout.to_json, new))

    def __enter__(self) -> ItemLog[Kept]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file:
            self._file.close()

    def _write(self, rows: Iterable[Mapping[str, Any]]) -> None:
        if self._file:
            self._file.append(b"".join(json.dumps(row).encode() + b"\n" for row in rows))
            if self._file.fault:
                raise _not_written(self._file.fault, self.path)


def _not_written(error: OSError, path: Path) -> UserError:
    return UserError(f"{error.filename or path}: cannot be written ({error.strerror}); pass --out FOLDER")
