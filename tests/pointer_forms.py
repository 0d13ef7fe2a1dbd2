"""What copying a run to another file system makes of its `latest` and `best`."""

from __future__ import annotations

import shutil
from pathlib import Path

from markov_cot.checkpoints import checkpoint as checkpoints
from markov_cot.checkpoints import pointers


def copy_of(original: Path, link: Path) -> None:
    """What `cp -rL` makes of a link."""
    pointers.remove(link)
    shutil.copytree(original, link)


def as_files(run_folder: Path) -> None:
    for name in ("latest", "best"):
        if target := checkpoints.follow(run_folder, name):
            (run_folder / name).unlink()
            (run_folder / name).write_text(target.name)


def as_folders(run_folder: Path) -> None:
    for name in ("latest", "best"):
        if target := checkpoints.follow(run_folder, name):
            copy_of(target, run_folder / name)


def lost(run_folder: Path) -> None:
    for name in ("latest", "best"):
        (run_folder / name).unlink(missing_ok=True)


def only_the_folders(run_folder: Path) -> None:
    as_folders(run_folder)
    for folder in checkpoints.list_steps(run_folder):
        shutil.rmtree(folder)
