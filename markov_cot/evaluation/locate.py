"""Finds the checkpoint a name stands for: `adapter_4000`, `best`, `latest`, `base`, or the path of a folder."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from markov_cot.checkpoints.adapter_folder import check_folder
from markov_cot.checkpoints.checkpoint import BEST, LATEST, follow, list_steps
from markov_cot.checkpoints.manifest import MANIFEST, refuse_pickles
from markov_cot.data.catalog import nearest
from markov_cot.utils.errors import UserError
from markov_cot.utils.layout import check_run_name

BASE = "base"
CHECKPOINT = "--checkpoint"
_STEP = re.compile(r"adapter_\d+")


@dataclass(frozen=True, slots=True)
class CheckpointRef:
    """A checkpoint that is there, or the untrained base."""

    name: str
    """"base", or the folder's own name ("adapter_4000", not "best")."""
    folder: Path | None
    """None for the base."""
    run: str | None
    """The run it belongs to; None for a folder from elsewhere, and for the base of no run."""

    @property
    def has_manifest(self) -> bool:
        """Whether this project wrote it."""
        return self.folder is not None and (self.folder / MANIFEST).is_file()

    def describe(self) -> str:
        """For messages."""
        return self.name if self.folder is None else str(self.folder)


def locate(name: str, run: str | None, checkpoints_dir: Path, option: str = CHECKPOINT) -> CheckpointRef:
    """The checkpoint that `name`, given as `option`, stands for in `run`, or in the newest run that has it.

    Raises `UserError` when there is none, naming what there is.
    """
    if run is not None:
        check_run_name(run)
    if name == BASE:
        return CheckpointRef(BASE, None, run)
    if _STEP.fullmatch(name) or name in (BEST, LATEST):
        return _in_a_run(name, run, checkpoints_dir, option)
    folder = Path(name).expanduser()
    if folder.name in (BEST, LATEST):  # also where the file system has no links
        folder = follow(folder.parent, folder.name) or folder
    if folder.is_dir():
        return _at(folder, checkpoints_dir)
    steps = [step.name for step in list_steps(checkpoints_dir / run)] if run else []
    hint = nearest(name, [*steps, BEST, LATEST, BASE])
    raise UserError(f"{option} {name}: is no folder, and no name of a checkpoint{hint}")


def default_name(run: str | None, checkpoints_dir: Path) -> str:
    """The run's `best`, or its `latest` when it has no best. Raises `UserError` without checkpoints."""
    return BEST if follow(checkpoints_dir / find_run(run, checkpoints_dir), BEST) else LATEST


def find_run(run: str | None, checkpoints_dir: Path) -> str:
    """`run`, which must have checkpoints, or the newest run that has."""
    if run is not None:
        check_run_name(run)
    runs = [run] if run else runs_by_age(checkpoints_dir)
    for name in runs:
        if list_steps(checkpoints_dir / name):
            return name
    raise UserError(_nothing(run, checkpoints_dir))


def runs_by_age(checkpoints_dir: Path) -> list[str]:
    """Runs with checkpoints, that with the newest checkpoint first."""
    folders = [f for f in checkpoints_dir.glob("*") if f.is_dir() and not f.name.startswith(".") and list_steps(f)]
    newest = {f.name: max(step.stat().st_mtime_ns for step in list_steps(f)) for f in folders}
    return sorted(newest, key=lambda name: (-newest[name], name))


def _in_a_run(name: str, run: str | None, checkpoints_dir: Path, option: str) -> CheckpointRef:
    runs = [run] if run else runs_by_age(checkpoints_dir)
    # `best` and `latest` are the newest run's; a step is looked for in all of them.
    for each in runs if _STEP.fullmatch(name) else runs[:1]:
        if folder := _checkpoint(checkpoints_dir / each, name):
            return CheckpointRef(folder.name, folder.resolve(), each)
    if not runs or not any(list_steps(checkpoints_dir / each) for each in runs):
        raise UserError(_nothing(run, checkpoints_dir, option))
    steps = ", ".join(step.name for step in list_steps(checkpoints_dir / runs[0]))
    if name == BEST:
        raise UserError(
            f"{option} best: run {runs[0]} has none (no validation since step 0, or its checkpoint was rolled "
            f"back, damaged or left out of a copy); it has {steps}"
        )
    where = f"run {runs[0]}" if run or name == LATEST else f"any run in {checkpoints_dir}/"
    raise UserError(f"{option} {name}: not found in {where}; {runs[0]} has {steps}")


def _checkpoint(run_folder: Path, name: str) -> Path | None:
    """What a run has under a name. Links are followed within the run's folder only."""
    if name in (BEST, LATEST):
        return follow(run_folder, name)
    return next((folder for folder in list_steps(run_folder) if folder.name == name), None)


def _at(folder: Path, checkpoints_dir: Path) -> CheckpointRef:
    folder = folder.resolve()
    check_folder(folder)
    if (folder / MANIFEST).is_file():
        refuse_pickles(folder)
    own = folder.parent.parent == checkpoints_dir.resolve()
    return CheckpointRef(folder.name, folder, folder.parent.name if own else None)


def _nothing(run: str | None, checkpoints_dir: Path, option: str = CHECKPOINT) -> str:
    where = f"run {run}: has" if run else "there are"
    folder = checkpoints_dir / (run or "")
    base = f"{BASE} or " if option == CHECKPOINT else ""
    return f"{where} no checkpoints in {folder}; train first, or pass {option} {base}a folder's path"
