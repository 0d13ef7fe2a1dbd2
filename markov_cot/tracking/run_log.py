"""The log of a run in `runs/<run>/`: log.jsonl, samples.jsonl, alarms.jsonl, and at its end summary.json."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markov_cot.alarms.monitor import Event
from markov_cot.utils.files import AppendFile, replace_file
from markov_cot.utils.layout import ALARMS, LOG, SAMPLES, SUMMARY

logger = logging.getLogger(__name__)

NOTHING = -1
"""Step before which there is nothing."""
ROLLBACKS = "rollbacks"


class RunLog:
    """Three JSONL files that are never behind a checkpoint.

    A full disk does not stop it: lines wait in memory, in order, and `sync` fails until all of them are written, so
    that no checkpoint is ever ahead of the log.
    """

    def __init__(self, folder: Path, last: int, rollbacks: int = 0) -> None:
        """Continue after step `last` (`NOTHING` for a new run) and drop what was logged after it.

        Alarms from before an earlier rollback stay: they say why there was one. Raises `OSError`.
        """
        self._folder = folder
        self._warned = False
        self._open(last, rollbacks)

    def _open(self, last: int, rollbacks: int) -> None:
        self._rollbacks = rollbacks
        (self._folder / SUMMARY).unlink(missing_ok=True)  # stale: the run is continuing
        for name in (LOG, SAMPLES, ALARMS):
            _keep_steps(self._folder / name, last, rollbacks)
        self._log = AppendFile(self._folder / LOG)
        self._samples = AppendFile(self._folder / SAMPLES)
        self._alarms = AppendFile(self._folder / ALARMS)

    def rewind(self, step: int, rollbacks: int) -> None:
        """Drop what was logged after `step`, except alarms, which say why. `rollbacks` counts this one too."""
        self.close()
        self._open(step, rollbacks)

    def sync(self) -> None:
        """Wait until all that was logged is on the disk. Raises `OSError` when it cannot be."""
        for file in self._files:
            file.sync()

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Append one line to log.jsonl; NaN and infinity become null."""
        self._line(self._log, {"step": step} | {k: v if math.isfinite(v) else None for k, v in values.items()})
        self._warn()

    def alarms(self, events: Sequence[Event]) -> None:
        """Append the alarms that changed to alarms.jsonl."""
        for event in events:
            self._line(self._alarms, event.as_json() | {ROLLBACKS: self._rollbacks})

    def samples(self, step: int, rows: Sequence[Mapping[str, Any]]) -> None:
        """Append sample CoTs to samples.jsonl."""
        for row in rows:
            self._line(self._samples, {"step": step, **row})

    def summarise(self, result: Mapping[str, Any]) -> None:
        """Write summary.json: how the run ended. Raises `OSError` when it cannot be written."""
        replace_file(self._folder / SUMMARY, (json.dumps(result, indent=1) + "\n").encode())

    def close(self) -> None:
        """Close the files."""
        for file in self._files:
            file.close()

    @property
    def _files(self) -> tuple[AppendFile, ...]:
        return self._log, self._samples, self._alarms

    def _line(self, file: AppendFile, row: Mapping[str, Any]) -> None:
        # Half of a surrogate pair, which broken text may hold, has no UTF-8; JSON's own escapes have room for it.
        file.append((json.dumps(row, ensure_ascii=False) + "\n").encode(errors="backslashreplace"))

    def _warn(self) -> None:
        """Say once that the disk takes nothing, and again when it does."""
        fault = next((file.fault for file in self._files if file.fault), None)
        if fault and not self._warned:
            logger.warning(
                "%s: cannot be written (%s); its lines are kept in memory until they can", self._folder, fault.strerror
            )
        if self._warned and not fault:
            logger.warning("%s: is written again; nothing is missing", self._folder)
        self._warned = fault is not None


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a JSONL log, without lines that are torn or damaged; none where there is no file."""
    if not path.exists():
        return []
    rows = (_row(line) for line in path.read_bytes().split(b"\n"))
    return [row for row in rows if row is not None]


def _row(line: bytes) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) else None


def _keep_steps(path: Path, last: int, rollbacks: int) -> None:
    """Drop lines of a JSONL log whose step is after `last`, and lines that are torn or damaged.

    A line that counts fewer `rollbacks` is from before the last one, and stays.
    """
    if not path.exists():
        return
    content = path.read_bytes()
    lines = content.split(b"\n")
    kept = b"".join(line + b"\n" for line in lines[:-1] if _stays(line, last, rollbacks))
    if kept != content:
        replace_file(path, kept)


def _stays(line: bytes, last: int, rollbacks: int) -> bool:
    row = _row(line)
    try:
        return row is not None and bool(row["step"] <= last or row.get(ROLLBACKS, rollbacks) < rollbacks)
    except (KeyError, TypeError):
        return False


def most_rollbacks(path: Path) -> int:
    """Return how many rollbacks there were before the last of a log's lines; 0 where no line says."""
    counts = (row.get(ROLLBACKS) for row in read_rows(path))
    return max((count for count in counts if isinstance(count, int)), default=0)
