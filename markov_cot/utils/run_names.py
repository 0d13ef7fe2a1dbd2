"""The runs in a folder, by name and age."""

from __future__ import annotations

from pathlib import Path


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
    return max(path.stat().st_mtime_ns for path in (folder / "log.jsonl", folder / "config.yaml") if path.is_file())
