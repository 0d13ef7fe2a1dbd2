"""The folders that a run writes to: their names, whether they are free, and making them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from markov_cot.checkpoints.checkpoint import list_steps
from markov_cot.checkpoints.initial_adapter import INIT, InitialAdapter
from markov_cot.checkpoints.run_lock import RunLock
from markov_cot.config.loading import dump_config
from markov_cot.config.schema import Config
from markov_cot.utils.errors import UserError
from markov_cot.utils.files import replace_file, write_synced
from markov_cot.utils.layout import CONFIG, LOG, check_run_name


@dataclass(frozen=True, slots=True)
class Folders:
    """Where a run writes."""

    run: Path
    checkpoints: Path


def new_run_name(recipe: str) -> str:
    """Return the name of a run that was given none: its recipe and the time, UTC."""
    return f"{recipe}-{datetime.now(UTC):%Y%m%d-%H%M%S}"


def folders_of(config: Config, run: str) -> Folders:
    check_run_name(run)
    return Folders(Path(config.checkpoint.runs_dir, run), Path(config.checkpoint.checkpoints_dir, run))


def check_folders(folders: Folders, *, resume: bool) -> None:
    run = folders.run.name
    for folder, setting in ((folders.run, "runs_dir"), (folders.checkpoints, "checkpoints_dir")):
        if folder.is_symlink():
            raise UserError(f"run {run}: {folder} is a link; give the folder it leads to as checkpoint.{setting}")
    if not resume:
        _check_new(folders)
    elif not folders.run.is_dir():
        raise UserError(f"run {run}: there is no {folders.run} to resume; leave out --resume to start it")


def _check_new(folders: Folders) -> None:
    """A run begins to exist with its config, and its name is taken while there are checkpoints of it."""
    run = folders.run.name
    if (folders.run / CONFIG).exists() or (folders.run / LOG).exists():
        raise UserError(f"run {run}: {folders.run} exists already; pass --resume to continue it, or another --run")
    if list_steps(folders.checkpoints):
        raise UserError(f"run {run}: {folders.checkpoints} holds checkpoints already; move them, or give another --run")


def check_writable(folders: Folders) -> None:
    """Raises `UserError` where the folders could not be made, as far as that can be seen without making them."""
    for folder in (folders.run, folders.checkpoints):
        there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
            why = "is not a folder" if not there.is_dir() else "cannot be written"
            raise UserError(f"{there}: {why}; choose another folder")


def make_folders(
    folders: Folders, config: Config, lock: RunLock, *, resume: bool, init: InitialAdapter | None = None
) -> None:
    """Makes a run's folders, with its config and, of a new run, a copy of the adapter that it starts from.

    Raises `UserError` where they cannot be written.
    """
    with writing(folders):
        for folder in (folders.run, folders.checkpoints):
            folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
        if not resume:
            _check_new(folders)  # another process may have been faster
        probe = folders.checkpoints / ".probe"
        try:
            write_synced(probe, bytes(1 << 20))
        finally:
            probe.unlink(missing_ok=True)
        if init and not resume:
            init.copy_to(folders.checkpoints / INIT)
        replace_file(folders.run / CONFIG, dump_config(config).encode())


@contextlib.contextmanager
def writing(folders: Folders) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        where = error.filename or folders.run
        raise UserError(f"{where}: cannot be written ({error.strerror}); free space or choose another folder") from None
