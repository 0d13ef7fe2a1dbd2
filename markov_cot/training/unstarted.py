"""Takes back the folders of a run that ended before its first step, so that the corrected command may use its name."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from markov_cot.checkpoints.checkpoint import BEST, LATEST, list_steps, step_of
from markov_cot.checkpoints.initial_adapter import INIT
from markov_cot.checkpoints.run_dir import Folders
from markov_cot.checkpoints.run_lock import LOCK
from markov_cot.tracking.run_log import NOTHING
from markov_cot.tracking.step_files import StepFiles, rollouts_folder, validation_folder
from markov_cot.training.setup import Session
from markov_cot.utils.errors import UserError
from markov_cot.utils.layout import ALARMS, CONFIG, ENVIRONMENT, LOG, SAMPLES

LOGS = (CONFIG, ENVIRONMENT, LOG, SAMPLES, ALARMS)


@contextlib.contextmanager
def undone_if_it_never_starts(session: Session, *, resume: bool) -> Iterator[None]:
    """Within it, whatever ends a new run before its first step also removes what the run has made so far.

    A killed process leaves that behind; `--resume` continues from there.
    """
    try:
        yield
    except BaseException:
        if session.processes.is_first and not resume and not _has_steps(session.folders):
            with contextlib.suppress(OSError, UserError):  # what ended the run matters more
                _remove(session)
        raise


def _has_steps(folders: Folders) -> bool:
    """Whether a step was logged, below the line of step 0 that a validation at the start leaves, or saved."""
    if any(step_of(folder) > 0 for folder in list_steps(folders.checkpoints)):
        return True
    log = folders.run / LOG
    if not log.is_file():
        return False
    with log.open("rb") as file:
        return any(not line.startswith(b'{"step": 0,') for line in islice(file, 2))


def _remove(session: Session) -> None:
    """Only what a run itself writes: the folders may have been there before, with files of the user's."""
    folders = session.folders
    session.lock.acquire()
    try:
        for path in (*folders.run.glob("events.out.tfevents.*"), *(folders.run / name for name in LOGS)):
            path.unlink(missing_ok=True)
        for name in (LATEST, BEST):
            (folders.checkpoints / name).unlink(missing_ok=True)
        for folder in list_steps(folders.checkpoints):
            shutil.rmtree(folder)
        shutil.rmtree(folders.checkpoints / INIT, ignore_errors=True)
        for kept in (rollouts_folder(folders.run), validation_folder(folders.run)):
            StepFiles(kept, NOTHING)
            _remove_empty(kept)
        (folders.run / LOCK).unlink(missing_ok=True)
    finally:
        session.lock.release()
    for folder in (folders.run, folders.checkpoints):
        _remove_empty(folder)
        _remove_empty(folder.parent)


def _remove_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):  # not there, or not empty
        folder.rmdir()
