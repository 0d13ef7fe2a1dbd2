"""Rows that a run keeps step by step: one compressed JSONL file a step, in a folder of `runs/<run>/`.

Full rollouts are kept so in `rollouts/`, and what each validation was answered in `validation/`, which at the end of a
run also has the final scores' answers, of base and trained actor. A file appears whole or not at all, and a run that
goes back to an earlier step drops the later ones.
"""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from markov_cot.utils.errors import UserError
from markov_cot.utils.files import replace_file
from markov_cot.utils.layout import ROLLOUTS, VALIDATION

_NAME = re.compile(r"step_(\d+)\.jsonl\.gz")
_FINAL = "final_{}.jsonl.gz"


class StepFiles:
    """Writes the rows of chosen steps."""

    def __init__(self, folder: Path, last: int) -> None:
        """What `folder` has of steps after `last` goes, and the rows of an end that is none. Raises `OSError`."""
        self._folder = folder
        self.rewind(last)

    def write(self, step: int, rows: Iterable[Mapping[str, Any]]) -> None:
        """Write a step's rows, in order. Raises `OSError`."""
        self._write(_path(self._folder, step), rows)

    def finish(self, policy: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Write the rows that a policy, "base" or "trained", was scored by at the end. Raises `OSError`."""
        self._write(final_file(self._folder, policy), rows)

    def rewind(self, step: int) -> None:
        """Drop what is of later steps, and of the end."""
        for each in kept_steps(self._folder):
            if each > step:
                _path(self._folder, each).unlink()
        for path in self._folder.glob(_FINAL.format("*")):
            path.unlink()

    def _write(self, path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
        self._folder.mkdir(exist_ok=True)
        replace_file(path, render(rows))


def render(rows: Iterable[Mapping[str, Any]]) -> bytes:
    """Return the content of a file."""
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    # No time stamp, so that the same rows make the same bytes.
    return gzip.compress(text.encode(errors="backslashreplace"), mtime=0)


def kept_steps(folder: Path) -> list[int]:
    """Return the steps whose rows a folder has, in order."""
    names = (_NAME.fullmatch(path.name) for path in folder.glob("*"))
    return sorted(int(match[1]) for match in names if match)


def read_step(folder: Path, step: int) -> list[dict[str, Any]]:
    """Return the rows of one step.

    Raises `FileNotFoundError` for a step that was not kept, and `UserError` for a file that is damaged.
    """
    return _read(_path(folder, step))


def read_final(folder: Path, policy: str) -> list[dict[str, Any]]:
    """Return the rows that "base" or "trained" was scored by at the end; none where the run has not ended.

    Raises `UserError` for a file that is damaged.
    """
    path = final_file(folder, policy)
    return _read(path) if path.is_file() else []


def final_file(folder: Path, policy: str) -> Path:
    """Where the rows are that "base" or "trained" was scored by at the end."""
    return folder / _FINAL.format(policy)


def rollouts_folder(run_folder: Path) -> Path:
    """Where a run keeps full rollouts (`tracking.rollouts`)."""
    return run_folder / ROLLOUTS


def validation_folder(run_folder: Path) -> Path:
    """Where a run keeps what its validations were answered (`tracking.validations`)."""
    return run_folder / VALIDATION


def _read(path: Path) -> list[dict[str, Any]]:
    content = path.read_bytes()
    try:
        return [json.loads(line) for line in gzip.decompress(content).split(b"\n") if line]
    except (EOFError, ValueError, zlib.error, gzip.BadGzipFile):
        raise UserError(f"{path}: is damaged; take it from a backup, or remove it and look at another step") from None


def _path(folder: Path, step: int) -> Path:
    return folder / f"step_{step:06d}.jsonl.gz"
