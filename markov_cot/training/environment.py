"""`environment.json` in a run's folder: what computed the run, and each of its starts."""

from __future__ import annotations

import json
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from markov_cot.checkpoints.run_dir import Folders, writing
from markov_cot.utils.files import replace_file
from markov_cot.utils.layout import ENVIRONMENT


def record_start(folders: Folders, about: dict[str, Any], device: torch.device, *, resume: bool) -> None:
    """Write the file, with this start after those that it has. Raises `UserError` where it cannot be written.

    Args:
        folders: the run's.
        about: the recipe, and what base, data and software the run is of.
        device: that computes.
        resume: a new run has had no start before.
    """
    path = folders.run / ENVIRONMENT
    before = _read(path) if resume else {}
    about = about | {"recipe": before.get("recipe", about["recipe"])}
    start = {"time": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}", **_machine(device)}
    earlier = before.get("starts")
    document = {**about, "starts": [*(earlier if isinstance(earlier, list) else []), start]}
    with writing(folders):
        replace_file(path, (json.dumps(document, indent=1) + "\n").encode())


def _machine(device: torch.device) -> dict[str, Any]:
    """What a start ran on."""
    is_cuda = device.type == "cuda"
    return {
        "device": device.type,
        "device_name": torch.cuda.get_device_name(device) if is_cuda else platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "system": platform.platform(),
    }


def _read(path: Path) -> dict[str, Any]:
    """What an earlier start wrote; nothing for a run of before there was such a file, or where it is damaged."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
