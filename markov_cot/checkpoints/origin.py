"""Which of its checkpoints a resumed run continues from, and what becomes of later ones."""

from __future__ import annotations

import logging
from pathlib import Path

from markov_cot.checkpoints.checkpoint import (
    BEST,
    LATEST,
    FoundCheckpoint,
    discard_after,
    find_newest,
    follow,
    list_steps,
    recover,
    set_aside,
    step_of,
)
from markov_cot.checkpoints.manifest import read_manifest
from markov_cot.utils.errors import UserError
from markov_cot.utils.layout import CHECKPOINT

logger = logging.getLogger(__name__)

ABANDONED = "abandoned"


def find_origin(run_folder: Path, name: str | None) -> FoundCheckpoint | None:
    """The checkpoint that `name` stands for, or the newest that is whole; None when there are none at all.

    Newer ones that are damaged are named, and set aside. Raises `UserError` when there is no checkpoint `name`, or it
    is damaged.
    """
    if name is not None:
        return _find_named(run_folder, name)
    found = find_newest(run_folder)
    if found:
        for fault in found.damaged:
            logger.warning("%s. It was set aside, and %s is used", fault, found.folder.name)
    return found


def later_than(found: FoundCheckpoint) -> list[Path]:
    """The run's checkpoints after the one it continues from, oldest first."""
    return [folder for folder in list_steps(found.folder.parent) if step_of(folder) > found.manifest.step]


def abandon_after(run_folder: Path, step: int) -> None:
    """Sets the checkpoints of later steps aside, and removes links that led to one of them."""
    for folder in reversed(list_steps(run_folder)):
        if step_of(folder) > step:
            target = set_aside(folder, ABANDONED)
            logger.warning("%s is of a later step; it is kept as %s", folder, target.name)
    discard_after(run_folder, step)


def _find_named(run_folder: Path, name: str) -> FoundCheckpoint:
    recover(run_folder)
    folders = list_steps(run_folder)
    run = run_folder.name
    if not folders:
        raise UserError(f"--checkpoint {name}: run {run} has no checkpoints; leave it out")
    if name in (LATEST, BEST):
        folder = follow(run_folder, name)
    else:
        folder = next((each for each in folders if CHECKPOINT.fullmatch(name) and each.name == name), None)
    if folder is None:
        there = ", ".join(each.name for each in folders)
        raise UserError(f"--checkpoint {name}: run {run} has no such checkpoint; it has {there}")
    return FoundCheckpoint(folder, read_manifest(folder), [])
