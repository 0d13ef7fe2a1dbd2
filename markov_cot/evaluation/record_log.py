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


def fingerprint(settings: Mapping[str, Any]) -> str:
    """SHA-256 (hex) of all that an evaluation's outcome depends on."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


class RecordLog:
    """One evaluation's records: a first line with its settings, then one line for each item.

    `done` holds the records so far by their index. A last line torn by an interruption is dropped.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        """Opens the file of these settings in `folder`. Raises `UserError` when it is damaged or cannot be written."""
        name = fingerprint(settings)
        self.path = folder / f"{name[:24]}.jsonl"
        self.done: dict[int, Record] = {}
        header = {"fingerprint": name, **settings}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            whole = self._read(name) if self.path.exists() else 0
            self._file = self.path.open("r+b" if whole else "wb")
            self._file.truncate(whole)
            self._file.seek(whole)
            if not whole:
                self._write([header])
        except OSError as error:
            raise UserError(
                f"{error.filename or self.path}: cannot be written ({error.strerror}); pass --out FOLDER"
            ) from None

    def append(self, records: Iterable[Record]) -> None:
        """Adds records and hands them to the operating system at once."""
        new = list(records)
        self._write(map(to_json, new))
        self.done |= {record.index: record for record in new}

    def __enter__(self) -> RecordLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def _write(self, rows: Iterable[Mapping[str, Any]]) -> None:
        for row in rows:
            self._file.write(json.dumps(row).encode() + b"\n")
        self._file.flush()

    def _read(self, name: str) -> int:
        """Reads the whole lines into `done`; returns how many bytes they are."""
        whole = 0
        with self.path.open("rb") as file:
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
                        self.done.setdefault(record.index, record)
                except (ValueError, KeyError, TypeError):
                    raise UserError(f"{self.path} line {number}: damaged; delete the file to evaluate again") from None
                whole += len(line)
        return whole
