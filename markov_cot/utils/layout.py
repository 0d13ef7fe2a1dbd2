"""Names on disk: the files in `runs/<run>/`, the folders in `checkpoints/<run>/`, and the runs there are."""

from __future__ import annotations

import re
from pathlib import Path

from markov_cot.utils.errors import UserError
from markov_cot.utils.text import visible

CONFIG, SUMMARY, ENVIRONMENT = "config.yaml", "summary.json", "environment.json"
LOG, SAMPLES, ALARMS = "log.jsonl", "samples.jsonl", "alarms.jsonl"
ROLLOUTS, VALIDATION = "rollouts", "validation"
CHECKPOINT = re.compile(r"adapter_(\d+)", re.ASCII)
"""Name of a checkpoint's folder, and its step."""


def check_run_name(run: str) -> None:
    """Raise `UserError` for a name that would leave the folder of runs, or that a terminal would not show."""
    if run in ("", ".", "..") or Path(run).name != run or "\\" in run or visible(run) != run or not run.isprintable():
        raise UserError(f"--run {run!r}: is not a plain name; use letters, digits, '-' and '_'")


def run_names(runs_dir: Path, file: str) -> list[str]:
    """Names of the runs that have `file`, in alphabetical order."""
    return sorted(path.parent.name for path in runs_dir.glob(f"*/{file}") if path.is_file())


def newest_run(runs_dir: Path, file: str) -> str | None:
    """The run that was written to last, of those that have `file`; None when there are none.

    What an evaluation adds in folders of its own does not count.
    """
    written = {name: _last_written(runs_dir / name) for name in run_names(runs_dir, file)}
    return max(written, key=lambda name: (written[name], name), default=None)


def _last_written(folder: Path) -> int:
    return max(path.stat().st_mtime_ns for path in (folder / LOG, folder / CONFIG) if path.is_file())
