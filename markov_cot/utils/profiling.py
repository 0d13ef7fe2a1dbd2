"""Names of the parts of a step, for profiles, and their time.

A mark costs microseconds and does nothing unless a profiler runs.
"""

from __future__ import annotations

import time
from contextlib import AbstractContextManager

import torch
from torch.profiler import record_function

PREFIX = "markov-cot/"
PHASES = {
    "prompt": "prompts read",
    "decode": "tokens written",
    "reward": "answers scored",
    "reference": "CoTs read by the reference",
    "forward": "CoTs read by the actor, and the loss",
    "backward": "gradients",
    "optimizer": "clipping and AdamW",
    "logging": "logs and TensorBoard",
}


def seconds_since(started: float, device: torch.device) -> float:
    """Of `time.perf_counter`, once the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started


def profile_span(name: str) -> AbstractContextManager[object]:
    """Marks what runs within it as one of `PHASES`, which never contain one another."""
    assert name in PHASES, name
    mark: AbstractContextManager[object] = record_function(PREFIX + name)
    return mark
