"""A checkpoint's manifest: what the checkpoint says of itself, and the proof that it is whole and unchanged."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from markov_cot.config.former import in_todays_terms
from markov_cot.models.source import ADAPTER_CONFIG
from markov_cot.utils.errors import UserError
from markov_cot.utils.layout import CHECKPOINT

FORMAT = 2
WEIGHTS, MANIFEST = "adapter_model.safetensors", "manifest.json"
OPTIMIZER, STATE = "trainer/optimizer.safetensors", "trainer/state.json"
FILES = (WEIGHTS, ADAPTER_CONFIG, OPTIMIZER, STATE)
PICKLES = (".bin", ".ckpt", ".pickle", ".pkl", ".pt", ".pth")


class DamagedCheckpointError(UserError):
    """A checkpoint is not what was saved; the message names the file."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a checkpoint says of itself."""

    step: int
    config: dict[str, Any]
    base: dict[str, str]
    """`name`, `fingerprint` and `dtype` of the base model; of one from the hub also `revision`, as it was asked for,
    and `commit`, what it was."""
    data: dict[str, str]
    """`name` and `fingerprint` of the dataset's three splits."""
    software: dict[str, str]
    """Versions of what computed it."""
    files: dict[str, str]
    """SHA-256 of every other file, by its path in the folder."""
    readers: list[dict[str, str]] = field(default_factory=list)
    """The same as of the base, of each other model that reads; left out of the file where there are none."""
    init: dict[str, str] = field(default_factory=dict)
    """Of the adapter that the run started from: its `path`, and the SHA-256 of its weights (`fingerprint`) and of its
    `config`. Empty, and then not in the file, where that was a fresh one."""

    def render(self) -> bytes:
        """Content of the file, with a checksum of itself. The same manifest is always the same bytes."""
        values = {"format": FORMAT, **asdict(self)}
        for key in ("init", "readers"):
            if not values[key]:
                del values[key]
        text = json.dumps(values, indent=1, sort_keys=True)
        return (json.dumps({"checksum": sha256(text.encode()), **values}, indent=1, sort_keys=True) + "\n").encode()


def read_manifest(folder: Path) -> Manifest:
    """The manifest, its config in today's terms, once it and every other file have been found to be as they were saved.

    Raises `UserError` naming the file: `DamagedCheckpointError` where the checkpoint is not what was saved, and
    otherwise where it holds a pickle (which can run code when it is read), was written by another version, or cannot
    be read.
    """
    refuse_pickles(folder)
    with _reading(folder, MANIFEST):
        content = (folder / MANIFEST).read_bytes()
    manifest = _parse(folder, content)
    match = CHECKPOINT.fullmatch(folder.name)
    if match and int(match[1]) != manifest.step:
        raise DamagedCheckpointError(
            f"checkpoint {folder}: {MANIFEST} is of step {manifest.step}, another checkpoint's"
        )
    for name in FILES:
        with _reading(folder, name):
            found = checksum(folder / name)
        if found != manifest.files[name]:
            raise DamagedCheckpointError(
                f"checkpoint {folder}: {name} is damaged (wrong checksum); use an earlier checkpoint"
            )
    return replace(manifest, config=in_todays_terms(manifest.config))


def refuse_pickles(folder: Path) -> None:
    """Raises `UserError` when a file in a checkpoint's folder is a pickle by its name."""
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in PICKLES:
            name = path.relative_to(folder)
            raise UserError(f"checkpoint {folder}: {name} is a pickle, which can run code when it is read; remove it")


def sha256(content: bytes) -> str:
    """SHA-256 (hex) of bytes."""
    return hashlib.sha256(content).hexdigest()


def checksum(path: Path) -> str:
    """SHA-256 (hex) of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _parse(folder: Path, content: bytes) -> Manifest:
    damaged = DamagedCheckpointError(f"checkpoint {folder}: {MANIFEST} is damaged; use an earlier checkpoint")
    try:
        values = json.loads(content)
        written = values.pop("format")
        values.pop("checksum", None)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise damaged from None
    if written != FORMAT:
        raise UserError(
            f"checkpoint {folder}: {MANIFEST} has format {written!r}, and this version reads {FORMAT}; "
            "use the version that wrote it"
        )
    try:
        manifest = Manifest(**values)
        whole = manifest.render() == content
    except (TypeError, ValueError, RecursionError):
        raise damaged from None
    if not whole or type(manifest.step) is not int or set(manifest.files) != set(FILES):
        raise damaged
    return manifest


@contextlib.contextmanager
def _reading(folder: Path, name: str) -> Iterator[None]:
    """Turns what reading a file raises into one line."""
    try:
        yield
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise DamagedCheckpointError(f"checkpoint {folder}: {name} is missing; use an earlier checkpoint") from None
    except OSError as error:
        raise UserError(f"checkpoint {folder}: {name} cannot be read ({error.strerror}); check the disk") from None
