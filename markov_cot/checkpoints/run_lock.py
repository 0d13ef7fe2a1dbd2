"""One trainer per run folder, by a lock that the system releases when its holder ends, however it ends."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
from pathlib import Path
from typing import BinaryIO

from markov_cot.utils.errors import UserError

logger = logging.getLogger(__name__)

LOCK = ".lock"
_UNSUPPORTED = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS)


def is_locked(folder: Path) -> bool:
    """Whether a process trains the run in `folder` now. False where that cannot be known."""
    try:
        with (folder / LOCK).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


class RunLock:
    """Held within a `with` block, or from `acquire` on."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file: BinaryIO | None = None

    def acquire(self) -> None:
        """Raises `UserError` while another holds it, and `OSError` when the folder cannot be written."""
        if self._file:
            return
        file = (self._folder / LOCK).open("ab")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            raise UserError(
                f"run {self._folder.name}: another process trains it; wait for it or stop it, or give another --run"
            ) from None
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                raise
            logger.warning("%s: no lock on this file system; make sure that nothing else trains it", self._folder)
        self._file = file

    def release(self) -> None:
        """Lets others have it."""
        if self._file:
            with contextlib.suppress(OSError):  # where there was no lock to begin with
                fcntl.flock(self._file, fcntl.LOCK_UN)  # closing alone would leave it to a forked child
            self._file.close()
            self._file = None

    def __enter__(self) -> RunLock:
        self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()
