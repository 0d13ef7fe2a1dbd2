"""The file behind the evaluation cache: records appended as they are made, and read back after an interruption."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from markov_cot.evaluation.records import Record, from_json, to_json
from markov_cot.utils.errors import UserError
from markov_cot.utils.files import AppendFile


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


def read_records(path: Path, name: str) -> tuple[dict[int, Record], int]:
    """Return the records, by index, of the log with this fingerprint, and the bytes of its whole lines.

    Raises `UserError` when it is damaged.
    """
    records: dict[int, Record] = {}
    whole = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                break
            try:
                row = json.loads(line)
                if number == 1:
                    if row["fingerprint"] != name:
                        raise ValueError("another evaluation's")
                else:
                    record = from_json(row)
                    records.setdefault(record.index, record)
            except (ValueError, KeyError, TypeError):
                raise UserError(f"{path} line {number}: damaged; delete the file to evaluate again") from None
            whole += len(line)
    return records, whole


class RecordLog:
    """One evaluation's records: a first line with its settings, then one line for each item.

    `done` holds the records so far by their index. A last line torn by an interruption is dropped.
    """

    def __init__(self, folder: Path | None, settings: Mapping[str, Any]) -> None:
        """Open the file of these settings in `folder`; without one, records are kept in memory only.

        Raises `UserError` when the file is damaged or cannot be written.
        """
        self.done: dict[int, Record] = {}
        self._file: AppendFile | None = None
        if folder is None:
            return
        name = fingerprint(settings)
        self.path = folder / f"{name[:24]}.jsonl"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self.done, whole = read_records(self.path, name) if self.path.exists() else ({}, 0)
            self._file = AppendFile(self.path, keep=whole)
        except OSError as error:
            raise _not_written(error, self.path) from None
        if not whole:
            self._write([{"fingerprint": name, **settings}])

    def append(self, records: Iterable[Record]) -> None:
        """Add records and hand them to the operating system at once. Raises `UserError` when it does not take them."""
        new = list(records)
        self.done |= {record.index: record for record in new}
        self._write(map(to_json, new))

    def __enter__(self) -> RecordLog:
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
