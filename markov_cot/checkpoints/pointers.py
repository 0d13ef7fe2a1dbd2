"""`latest` and `best`: names beside a run's checkpoints, each of which stands for one of them.

A pointer is a symbolic link where the file system has them, and otherwise a text file that holds the checkpoint's name.
Both are read everywhere. A copy that followed the links (`cp -rL`, `rsync -L`, cloud storage) has left a folder in a
pointer's place, which stands for the step in its manifest.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from markov_cot.checkpoints.manifest import MANIFEST
from markov_cot.utils.files import replace_file
from markov_cot.utils.layout import CHECKPOINT

_LONGEST = 64
"""Bytes. A file that holds more is no pointer."""


def write(path: Path, name: str) -> None:
    """Point `path` to the checkpoint `name` beside it, in one rename.

    Raises `OSError` when the disk takes neither a link nor a file. `path` must not be a folder.
    """
    temporary = path.with_name(f".{path.name}.writing")
    try:
        remove(temporary)
        temporary.symlink_to(name)
        temporary.replace(path)
    except (OSError, NotImplementedError):
        # Systems without links refuse them with many errors; where the disk itself is the reason, a file fails too.
        remove(temporary)
        replace_file(path, f"{name}\n".encode())


def read(path: Path) -> str | None:
    """Return the name of the checkpoint that `path` stands for; None where it is no pointer."""
    if path.is_symlink():
        name: str | None = os.readlink(path)  # noqa: PTH115 - as text: resolving it would follow it wherever it leads
    elif is_copy(path):
        name = _name_of(path)
    else:
        name = _content(path)
    return name if name and CHECKPOINT.fullmatch(name) else None


def is_copy(path: Path) -> bool:
    """Whether `path` is a folder of its own, where a pointer should be."""
    return path.is_dir() and not path.is_symlink()


def remove(path: Path) -> None:
    """Delete a pointer in whatever form it is; a folder with all that is in it."""
    if is_copy(path):
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _content(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            return file.read(_LONGEST).decode("ascii").strip()
    except (OSError, UnicodeDecodeError):
        return None


def _name_of(copy: Path) -> str | None:
    try:
        step = json.loads((copy / MANIFEST).read_bytes())["step"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return f"adapter_{step}" if type(step) is int else None
