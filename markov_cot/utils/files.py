"""Writing files so that a crash, a kill or a full disk leaves the old content or the new, never half of one.

Every file that a run or an evaluation leaves is written through here, but for TensorBoard's event files, which torch's
writer appends to. Errors are `OSError`, as the system gives them.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

_NO_FOLDER_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EBADF)
"""What file systems answer that cannot sync a folder (some network and FUSE ones); there its names are kept as they
keep them."""


def write_synced(path: Path, content: bytes) -> None:
    """Writes a new file and waits until it is on the disk. Only for names that nobody looks for yet."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    try:
        left = memoryview(content)
        while left:
            left = left[os.write(descriptor, left) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_file(path: Path, content: bytes) -> None:
    """Makes `content` the content of `path` in one step: it is written beside it and renamed."""
    temporary = path.with_name(f".{path.name}.writing")
    try:
        write_synced(temporary, content)
        os.replace(temporary, path)  # noqa: PTH105 - one module whose calls of the system a test can make fail
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Give a file that takes the place of `path` at the end, or not if anything is raised."""
    with _beside(path) as temporary, temporary.open("wb") as file:
        yield file


def replace_by(path: Path, write: Callable[[Path], object]) -> None:
    """Make what `write(a path)` writes the content of `path` in one step. The path it gets ends as `path` does."""
    with _beside(path) as temporary:
        write(temporary)


@contextlib.contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """Give a name beside `path`; what stands there at the end is synced and takes the place of `path`."""
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        yield temporary
        _sync(temporary)
        os.replace(temporary, path)  # noqa: PTH105 - as above
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


@contextlib.contextmanager
def appending(path: Path) -> Iterator[BinaryIO]:
    """Give a file that grows at its end, for another process to write to; not waited for until it is on the disk."""
    with path.open("ab") as file:
        yield file


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Give a folder that takes the name `path` at the end, with all that is in it, or goes away if anything is raised.

    There must be nothing at `path`, or an empty folder.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    temporary.mkdir()
    try:
        yield temporary
        for each in temporary.rglob("*"):
            _sync(each)
        os.replace(temporary, path)  # noqa: PTH105 - as above
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    sync_folder(path.parent)


def _sync(path: Path) -> None:
    if path.is_dir():
        sync_folder(path)
        return
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Waits until the names in a folder are on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise
    finally:
        os.close(descriptor)


class AppendFile:
    """A file that grows at its end. What the disk refuses is kept in memory, in order, and written with what follows.

    So a disk that is full for a while loses nothing; `sync` says whether all of it is on the disk.
    """

    def __init__(self, path: Path, keep: int | None = None) -> None:
        """Continue behind the first `keep` bytes; by default behind all that is there."""
        self._path = path
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        if keep is not None:
            os.ftruncate(self._descriptor, keep)
        self._is_open = True
        self._pending = bytearray()
        self.fault: OSError | None = None
        """Why the end of the file is not on the disk; None when it is."""

    def append(self, content: bytes) -> None:
        """Adds `content`, now or once the disk takes it."""
        self._pending += content
        try:
            self._write()
        except OSError as error:
            self.fault = error

    def sync(self) -> None:
        """Waits until everything is on the disk. Raises `OSError` when it cannot be."""
        self._write()
        os.fsync(self._descriptor)

    def close(self) -> None:
        """Closes the file, once; what the disk has refused until now is lost."""
        if not self._is_open:
            return
        self.append(b"")
        self._is_open = False
        os.close(self._descriptor)

    def _write(self) -> None:
        while self._pending:
            written = os.write(self._descriptor, self._pending)
            del self._pending[:written]
        self.fault = None
