"""Checkpoints on disk: `checkpoints/<run>/adapter_<step>/`, loadable by PEFT as it is. No pickles.

adapter_model.safetensors, adapter_config.json    the actor's adapter, as PEFT writes it
trainer/optimizer.safetensors, trainer/state.json optimizer moments; what else the trainer remembers
manifest.json                                     step, config, fingerprints, checksum of every file

A folder named adapter_<step> is whole: it is written as .adapter_<step>.writing and renamed. Folders whose names begin
with a dot are what a crash left of writing, replacing or deleting one; `recover` clears them up.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors import SafetensorError
from safetensors.torch import load as parse_tensors
from safetensors.torch import save as render_tensors
from torch import Tensor

from markov_cot.checkpoints import pointers
from markov_cot.checkpoints.manifest import (
    MANIFEST,
    OPTIMIZER,
    STATE,
    WEIGHTS,
    DamagedCheckpointError,
    Manifest,
    read_manifest,
    sha256,
)
from markov_cot.models.source import ADAPTER_CONFIG
from markov_cot.utils.errors import UserError
from markov_cot.utils.files import sync_folder, write_synced
from markov_cot.utils.layout import CHECKPOINT

LATEST, BEST = "latest", "best"
_WRITING, _REPLACED, _DELETING = "writing", "replaced", "deleting"
_LAGGED = "lagged"
"""What is kept beside a parameter's moments of a lagged reader."""


@dataclass(frozen=True, slots=True)
class FoundCheckpoint:
    """The newest checkpoint of a run that is whole."""

    folder: Path
    manifest: Manifest
    damaged: list[DamagedCheckpointError]
    """What is wrong with newer ones, newest first; they have been set aside."""


def render(
    model: PeftModel,
    optimizer: torch.optim.Optimizer,
    state: Mapping[str, Any],
    about: Manifest,
    lagged: Mapping[str, Tensor] | None = None,
) -> dict[str, bytes]:
    """The files of a checkpoint, by their paths in its folder. `about.files` is filled in.

    `lagged` are the adapter's values that a lagged reader reads with, by parameter.
    """
    contents = _adapter_files(model) | {
        OPTIMIZER: render_tensors(
            optimizer_tensors(model, optimizer)
            | {f"{name}|{_LAGGED}": value.contiguous() for name, value in (lagged or {}).items()}
        ),
        STATE: _render_json(state),
    }
    sums = {name: sha256(content) for name, content in contents.items()}
    return contents | {MANIFEST: replace(about, files=sums).render()}


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


def write_adapter(folder: Path, model: PeftModel) -> None:
    """Writes the adapter alone into a folder, as others who read PEFT's adapters expect it."""
    for name, content in _adapter_files(model).items():
        write_synced(folder / name, content)


def _adapter_files(model: PeftModel) -> dict[str, bytes]:
    adapter = get_peft_model_state_dict(model, save_embedding_layers=False)
    # Each in memory of its own, as PEFT writes tied ones too.
    apart = {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in adapter.items()}
    return {
        WEIGHTS: render_tensors(apart, {"format": "pt"}),
        ADAPTER_CONFIG: _render_adapter_config(model),
    }


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


def load_adapter(folder: Path, model: PeftModel) -> None:
    """Loads a checkpoint's adapter into `model`'s. Raises `UserError` when it does not fit."""
    state = _load_tensors(folder, WEIGHTS)
    expected = get_peft_model_state_dict(model, save_embedding_layers=False)
    if {k: v.shape for k, v in state.items()} != {k: v.shape for k, v in expected.items()}:
        raise UserError(f"checkpoint {folder}: its adapter does not fit this model; check lora.* and --model")
    set_peft_model_state_dict(model, state)


def load_trainer_state(folder: Path, model: PeftModel, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Restores the optimizer's moments and returns the rest of the trainer's state. Raises `UserError`."""
    trainable = _trainable(model)
    moments: dict[str, dict[str, Tensor]] = {name: {} for name in trainable}
    for key, value in _load_tensors(folder, OPTIMIZER).items():
        name, _, moment = key.rpartition("|")
        if moment == _LAGGED:
            continue
        if name not in moments or (value.ndim and value.shape != trainable[name].shape):
            raise UserError(f"checkpoint {folder}: {OPTIMIZER} does not fit this model; check lora.* and --model")
        moments[name][moment] = value
    for name, parameter in trainable.items():
        optimizer.state[parameter] = {
            moment: value.to(parameter.device if value.ndim else "cpu") for moment, value in moments[name].items()
        }
    try:
        state: dict[str, Any] = json.loads((folder / STATE).read_bytes())
    except (OSError, ValueError, RecursionError):
        raise DamagedCheckpointError(
            f"checkpoint {folder}: {STATE} cannot be read; use an earlier checkpoint"
        ) from None
    return state


def load_lagged(folder: Path) -> dict[str, Tensor]:
    """Return the adapter's values, by parameter, that a checkpoint's lagged reader reads with; empty without one."""
    if not (folder / OPTIMIZER).is_file():
        return {}
    tensors = _load_tensors(folder, OPTIMIZER)
    return {key.removesuffix(f"|{_LAGGED}"): value for key, value in tensors.items() if key.endswith(f"|{_LAGGED}")}


def optimizer_tensors(model: PeftModel, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """AdamW's moments and step counts as `parameter|moment` -> tensor."""
    return {
        f"{name}|{key}": value.contiguous()
        for name, parameter in _trainable(model).items()
        for key, value in optimizer.state[parameter].items()
    }


def _trainable(model: PeftModel) -> dict[str, torch.nn.Parameter]:
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def _load_tensors(folder: Path, name: str) -> dict[str, Tensor]:
    try:
        return parse_tensors((folder / name).read_bytes())
    except (OSError, SafetensorError) as error:
        raise DamagedCheckpointError(
            f"checkpoint {folder}: {name} cannot be read ({error}); use another checkpoint"
        ) from None


def _render_adapter_config(model: PeftModel) -> bytes:
    """The adapter's config as PEFT's own `save_pretrained` writes it."""
    values = model.peft_config["default"].to_dict()
    plain = {key: sorted(value) if isinstance(value, set) else value for key, value in values.items()}
    return json.dumps(plain, indent=2, sort_keys=True).encode()


def _render_json(value: object) -> bytes:
    return (json.dumps(value, indent=1) + "\n").encode()


def _beside(folder: Path, state: str) -> Path:
    return folder.with_name(f".{folder.name}.{state}")


def _delete(folder: Path) -> None:
    """Deletes a checkpoint, which is no longer one from the first moment on."""
    doomed = _beside(folder, _DELETING)
    shutil.rmtree(doomed, ignore_errors=True)
    folder.rename(doomed)
    shutil.rmtree(doomed)
