"""Command lines that do something with a run, wherever its folders are."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markov_cot.config.schema import Checkpoint


def run_command(words: Sequence[str], folder: Path, settings: Mapping[str, Any]) -> str:
    """Return a command of markov-cot that names a run, with where its folders are if they are not in the usual places.

    Args:
        words: the command's.
        folder: the run's.
        settings: the run's, flat.
    """
    usual = Checkpoint()
    kept = settings.get("checkpoint.checkpoints_dir", usual.checkpoints_dir)
    given = {"runs_dir": str(folder.parent), "checkpoints_dir": str(kept)}
    moved = {key: value for key, value in given.items() if value != getattr(usual, key)}
    sets = [word for key, value in moved.items() for word in ("--set", f"checkpoint.{key}={value}")]
    return shlex.join(["markov-cot", *words, *sets])
