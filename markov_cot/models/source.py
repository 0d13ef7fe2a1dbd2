"""What a model's name stands for (the bundled `nano`, a local folder, a hub id), and whether a folder holds a model."""

from __future__ import annotations

import json
import os
import re
from importlib import resources
from pathlib import Path

from markov_cot.utils.errors import UserError

NANO = "nano"
ADAPTER_CONFIG = "adapter_config.json"
WEIGHT_FILES = ("*.safetensors", "*.safetensors.index.json")
CONFIG = "config.json"
TOKENIZER_FILES = ("tokenizer*", "vocab*", "*.model", "*.tiktoken", "tekken.json", "added_tokens.json")
# Hub ids are "name" or "owner/name"; anything else is meant as a path on some system.
_HUB_ID = re.compile(r"[\w-][\w.-]*(/[\w.-]+)?", re.ASCII)


def resolve_source(name: str) -> str:
    """The folder of the bundled `nano`, a local folder with `~` written out, or `name` itself as a hub id."""
    if name == NANO:
        return str(resources.files("markov_cot.models.nano") / "base")
    return os.path.expanduser(name)  # noqa: PTH111 - Path's own raises for users there are not


def check_source(name: str) -> str:
    """What to load `name` from. Raises `UserError` for paths that lead to no model."""
    source = resolve_source(name)
    folder = Path(source)
    if folder.is_dir():
        _check_folder(folder)
    elif folder.exists():
        raise UserError(f"model {name}: is a file; give the folder that transformers' save_pretrained wrote")
    elif not _HUB_ID.fullmatch(name):
        raise UserError(f"model {name}: there is no such folder; give the path of one, a hub id (owner/name), or nano")
    return source


def check_tokenizer(source: str) -> None:
    """Raises `UserError` for a local folder without any file of a tokenizer."""
    folder = Path(source)
    if folder.is_dir() and not any(next(folder.glob(pattern), None) for pattern in TOKENIZER_FILES):
        raise UserError(f"model {folder}: no tokenizer in it; save its tokenizer there with save_pretrained")


def _check_folder(folder: Path) -> None:
    if (folder / ADAPTER_CONFIG).is_file():
        # transformers would load the base that the adapter names, and the adapter into it.
        raise UserError(f"model {folder}: is an adapter, not a model; {_adapter_remedy(folder)}")
    if not (folder / CONFIG).is_file():
        raise UserError(f"model {folder}: no {CONFIG} in it; give a folder that transformers' save_pretrained wrote")
    try:
        readable = isinstance(json.loads((folder / CONFIG).read_text(encoding="utf-8")), dict)
    except (ValueError, RecursionError):
        readable = False
    if not readable:
        raise UserError(f"model {folder}: its {CONFIG} is not the JSON of a model's settings; get the file again")
    if not any(next(folder.glob(pattern), None) for pattern in WEIGHT_FILES):
        raise UserError(f"model {folder}: no weights (*.safetensors) in it; save them there with save_pretrained")


def _adapter_remedy(folder: Path) -> str:
    try:
        base = json.loads((folder / ADAPTER_CONFIG).read_text(encoding="utf-8"))["base_model_name_or_path"]
    except (OSError, ValueError, LookupError, TypeError):
        base = None
    return (
        f"evaluate it with `markov-cot eval --checkpoint {folder}` or `markov-cot sample --checkpoint {folder}`; "
        f"--model is for its base{f' ({base})' if base else ''}"
    )
