"""Checkpoints on disk: the folders `checkpoints/<run>/adapter_<step>/`; `contents` has what is in them.

A folder named adapter_<step> is whole: it is written as .adapter_<step>.writing and renamed. Folders whose names begin
with a dot are what a crash left of writing, replacing or deleting one; `recover` clears them up.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from markov_cot.checkpoints import pointers
from markov_cot.checkpoints.manifest import MANIFEST, DamagedCheckpointError, Manifest, read_manifest
from markov_cot.utils.errors import UserError
from markov_cot.utils.files import sync_folder, write_synced
from markov_cot.utils.layout import CHECKPOINT

LATEST, BEST = "latest", "best"
_WRITING, _REPLACED, _DELETING = "writing", "replaced", "deleting"


@dataclass(frozen=True, slots=True)
class FoundCheckpoint:
    """The newest checkpoint of a run that is whole."""

    folder: Path
    manifest: Manifest
    damaged: list[DamagedCheckpointError]
    """What is wrong with newer ones, newest first; they have been set aside."""


def write(folder: Path, contents: Mapping[str, bytes]) -> None:
    """Writes a checkpoint beside `folder` and renames it into place.

    Raises `OSError` when the disk refuses; a checkpoint that was there stays.
    """
    temporary = _beside(folder, _WRITING)
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        (temporary / "trainer").mkdir(parents=True)
        for name, content in contents.items():
            write_synced(temporary / name, content)
        for inner in (temporary / "trainer", temporary):
            sync_folder(inner)
        _move_into_place(temporary, folder)
    except OSError:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _move_into_place(temporary: Path, folder: Path) -> None:
    """A folder cannot be renamed over another, so one that is there steps aside, where `recover` would find it."""
    replaced = _beside(folder, _REPLACED)
    if folder.exists():
        shutil.rmtree(replaced, ignore_errors=True)
        folder.rename(replaced)
    try:
        temporary.rename(folder)
    except OSError:
        if replaced.exists():
            replaced.rename(folder)
        raise
    sync_folder(folder.parent)
    shutil.rmtree(replaced, ignore_errors=True)


def recover(run_folder: Path) -> None:
    """Clears up what a crash in the middle of writing, replacing or deleting a checkpoint has left.

    A folder in the place of `latest` or `best` that is the only one of its step takes the name of that step.
    """
    for path in sorted(path for name in ("adapter_*", LATEST, BEST) for path in run_folder.glob(f".{name}.*")):
        name, _, state = path.name[1:].partition(".")
        if state == _REPLACED and CHECKPOINT.fullmatch(name) and not (run_folder / name).exists():
            path.rename(run_folder / name)
        elif state in (_WRITING, _REPLACED, _DELETING):
            pointers.remove(path)
    for link in (run_folder / LATEST, run_folder / BEST):
        step = pointers.read(link) if pointers.is_copy(link) else None
        if step and not os.path.lexists(run_folder / step):
            link.rename(run_folder / step)


def find_newest(run_folder: Path) -> FoundCheckpoint | None:
    """The newest checkpoint that is whole; None when there are none at all.

    Newer ones that are damaged are renamed to damaged_adapter_<step>. Raises `UserError` when none is whole, or when
    the newest whole one must not be read.
    """
    recover(run_folder)
    faults: list[tuple[Path, DamagedCheckpointError]] = []
    for folder in reversed(list_steps(run_folder)):
        try:
            manifest = read_manifest(folder)
        except DamagedCheckpointError as fault:
            faults.append((folder, fault))
            continue
        for damaged, _ in faults:
            set_aside(damaged, "damaged")
        return FoundCheckpoint(folder, manifest, [fault for _, fault in faults])
    if faults:
        raise UserError(f"{faults[0][1]}, of which there is none; start another --run")
    return None


def set_aside(folder: Path, why: str) -> Path:
    """Renames a checkpoint to `why`_adapter_<step>, under which it is no longer one of the run's. The new path."""
    target, count = folder.with_name(f"{why}_{folder.name}"), 1
    while target.exists():
        count += 1
        target = folder.with_name(f"{why}_{folder.name}_{count}")
    return folder.rename(target)


def point(link: Path, folder: Path) -> None:
    """Make `link` (`latest` or `best`) stand for `folder` beside it; a folder in its place gives way."""
    if pointers.is_copy(link):
        _give_way(link)
    pointers.write(link, folder.name)


def follow(run_folder: Path, link: str) -> Path | None:
    """Return the checkpoint that `latest` or `best` stands for; None unless it is one of the run's own.

    Without a `latest` (many a copy leaves links out) that is the newest checkpoint. A folder in a pointer's place
    stands for itself when the run has no checkpoint of its step.
    """
    path = run_folder / link
    steps = list_steps(run_folder)
    if link == LATEST and steps and not os.path.lexists(path):
        return steps[-1]
    name = pointers.read(path)
    if name is None:
        return None
    if run_folder / name in steps:
        return run_folder / name
    return path if pointers.is_copy(path) else None


def point_again(run_folder: Path, latest: Path, best_step: int) -> None:
    """Sets `latest`, and `best` where the best checkpoint is still there, whatever they pointed to before."""
    point(run_folder / LATEST, latest)
    best = run_folder / f"adapter_{best_step}"
    if best_step and best in list_steps(run_folder):
        point(run_folder / BEST, best)
    else:
        _clear(run_folder / BEST)


def prune(run_folder: Path, keep: int, bounds: Iterable[int] = ()) -> None:
    """Deletes all but the newest `keep` checkpoints and those that `latest` and `best` point to.

    For each of `bounds`, the newest checkpoint up to that step is kept too.
    """
    folders = list_steps(run_folder)
    kept = {follow(run_folder, LATEST), follow(run_folder, BEST)}
    kept |= {max((f for f in folders if step_of(f) <= bound), key=step_of, default=None) for bound in bounds}
    for folder in folders[:-keep]:
        if folder not in kept:
            _delete(folder)


def discard_after(run_folder: Path, step: int) -> None:
    """Deletes the checkpoints of later steps, and pointers that would lead to one of them or nowhere."""
    for folder in list_steps(run_folder):
        if step_of(folder) > step:
            _delete(folder)
    left = list_steps(run_folder)
    for name in (LATEST, BEST):
        target = pointers.read(run_folder / name)
        if target is None or run_folder / target not in left:
            _clear(run_folder / name)


def _give_way(copy: Path) -> None:
    """Deletes a folder in a pointer's place when it is a copy of a checkpoint beside it; else sets it aside."""
    name = pointers.read(copy)
    original = copy.with_name(name) / MANIFEST if name else None
    if original and original.is_file() and original.read_bytes() == (copy / MANIFEST).read_bytes():
        _delete(copy)
    else:
        set_aside(copy, "damaged")


def _clear(link: Path) -> None:
    if pointers.is_copy(link):
        _give_way(link)
    else:
        pointers.remove(link)


def list_steps(run_folder: Path) -> list[Path]:
    """The run's checkpoint folders, oldest first. Links, which may lead out of the run's folder, are none."""
    folders = [
        f for f in run_folder.glob("adapter_*") if CHECKPOINT.fullmatch(f.name) and f.is_dir() and not f.is_symlink()
    ]
    return sorted(folders, key=step_of)


def step_of(folder: Path) -> int:
    """Step in a checkpoint folder's name."""
    match = CHECKPOINT.fullmatch(folder.name)
    assert match, folder
    return int(match[1])


def check_base(folder: Path, trained_on: Mapping[str, str], name: str, fingerprint: str) -> None:
    """Raises `UserError` unless the checkpoint was trained on this base."""
    if trained_on["fingerprint"] == fingerprint:
        return
    remedy, commit = f"pass --model {trained_on['name']}", trained_on.get("commit")
    if commit:
        remedy += f" --set model.revision={commit}"
    raise UserError(
        f"checkpoint {folder}: was trained on the base {trained_on['name']}, whose weights "
        f"{f'at commit {commit} ' if commit else ''}differ from {name}'s; {remedy}"
    )


def _beside(folder: Path, state: str) -> Path:
    return folder.with_name(f".{folder.name}.{state}")


def _delete(folder: Path) -> None:
    """Deletes a checkpoint, which is no longer one from the first moment on."""
    doomed = _beside(folder, _DELETING)
    shutil.rmtree(doomed, ignore_errors=True)
    folder.rename(doomed)
    shutil.rmtree(doomed)
