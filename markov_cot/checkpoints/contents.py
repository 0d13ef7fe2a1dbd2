"""What is in a checkpoint's folder, loadable by PEFT as it is. No pickles.

adapter_model.safetensors, adapter_config.json    the actor's adapter, as PEFT writes it
trainer/optimizer.safetensors, trainer/state.json optimizer moments; what else the trainer remembers
manifest.json                                     step, config, fingerprints, checksum of every file
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors import SafetensorError
from safetensors.torch import load as parse_tensors
from safetensors.torch import save as render_tensors
from torch import Tensor

from markov_cot.checkpoints.manifest import (
    MANIFEST,
    OPTIMIZER,
    STATE,
    WEIGHTS,
    DamagedCheckpointError,
    Manifest,
    sha256,
)
from markov_cot.models.source import ADAPTER_CONFIG
from markov_cot.utils.errors import UserError
from markov_cot.utils.files import write_synced

_LAGGED = "lagged"
"""What is kept beside a parameter's moments of a lagged reader."""


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


def write_adapter(folder: Path, model: PeftModel) -> None:
    """Writes the adapter alone into a folder, as others who read PEFT's adapters expect it."""
    for name, content in _adapter_files(model).items():
        write_synced(folder / name, content)


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


def _adapter_files(model: PeftModel) -> dict[str, bytes]:
    adapter = get_peft_model_state_dict(model, save_embedding_layers=False)
    # Each in memory of its own, as PEFT writes tied ones too.
    apart = {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in adapter.items()}
    return {
        WEIGHTS: render_tensors(apart, {"format": "pt"}),
        ADAPTER_CONFIG: _render_adapter_config(model),
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
