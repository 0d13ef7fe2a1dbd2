"""One trainer per run folder, by a lock that the system releases when its holder ends, however it ends."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
from pathlib import Path

from markov_cot.errors import UserError

logger = logging.getLogger(__name__)

LOCK = ".lock"
_UNSUPPORTED = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS)


class RunLock:
    """Held within a `with` block, or from `acquire` on."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Raises `UserError` while another holds it, and `OSError` when the folder cannot be written."""
        if self._descriptor is not None:
            return
        descriptor = os.open(self._folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise UserError(
                f"run {self._folder.name}: another process trains it; wait for it or stop it, or give another --run"
            ) from None
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                os.close(descriptor)
                raise
            logger.warning("%s: no lock on this file system; make sure that nothing else trains it", self._folder)
        self._descriptor = descriptor

    def release(self) -> None:
        """Lets others have it."""
        if self._descriptor is not None:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)  # closing alone would leave it to a forked child
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> RunLock:
        self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()
