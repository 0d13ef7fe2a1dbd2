"""Full rollouts: every CoT of a step, one compressed file a step in `runs/<run>/rollouts/`.

A file appears whole or not at all, and a run that goes back to an earlier step drops the later ones.

Shapes: B = P*G sequences (problem-major), L CoT tokens.
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

ROLLOUTS = "rollouts"
_NAME = re.compile(r"step_(\d+)\.jsonl\.gz")


class RolloutLog:
    """Writes the rollouts of chosen steps."""

    def __init__(self, folder: Path, last: int) -> None:
        """`folder` is the run's; what is of steps after `last` goes. Raises `OSError`."""
        self._folder = folder / ROLLOUTS
        self.rewind(last)

    def write(self, step: int, rows: Iterable[Mapping[str, Any]]) -> None:
        """Write one row a CoT, in order. Raises `OSError`."""
        self._folder.mkdir(exist_ok=True)
        replace_file(_path(self._folder, step), render(rows))

    def rewind(self, step: int) -> None:
        """Drop what is of later steps."""
        for each in list_rollouts(self._folder.parent):
            if each > step:
                _path(self._folder, each).unlink()


def render(rows: Iterable[Mapping[str, Any]]) -> bytes:
    """Return the content of a step's file."""
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    # No time stamp, so that the same rollouts make the same bytes.
    return gzip.compress(text.encode(errors="backslashreplace"), mtime=0)


def list_rollouts(run_folder: Path) -> list[int]:
    """Return the steps whose rollouts a run has kept, in order."""
    names = (_NAME.fullmatch(path.name) for path in (run_folder / ROLLOUTS).glob("*"))
    return sorted(int(match[1]) for match in names if match)


def read_rollouts(run_folder: Path, step: int) -> list[dict[str, Any]]:
    """Return the rows of one step.

    Raises `FileNotFoundError` for a step that was not kept, and `UserError` for a file that is damaged.
    """
    path = _path(run_folder / ROLLOUTS, step)
    content = path.read_bytes()
    try:
        return [json.loads(line) for line in gzip.decompress(content).split(b"\n") if line]
    except (EOFError, ValueError, zlib.error, gzip.BadGzipFile):
        raise UserError(f"{path}: is damaged; take it from a backup, or remove it and look at another step") from None


def _path(folder: Path, step: int) -> Path:
    return folder / f"step_{step:06d}.jsonl.gz"
