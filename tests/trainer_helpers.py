"""A short run by the trainer itself, and what it left."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from markov_cot.alarms.monitor import Event
from markov_cot.config.loading import build_config
from markov_cot.config.schema import Config
from markov_cot.training.setup import open_session
from markov_cot.training.trainer import Trainer


def small_config(folder: Path, **overrides: Any) -> Config:
    """Four steps on sums of two or three terms, with changes."""
    values: dict[str, Any] = {
        "steps": 4,
        "data": {"dataset": "arithmetic", "terms": [2, 3]},
        "rollout": {"problems": 2, "samples": 4, "length": 12},
        "optim": {"lr": 1e-2, "warmup_steps": 2},
        "validation": {"every": 2, "problems": 6, "final_problems": 8, "reader_check": 0},
        "checkpoint": {"every": 2, "runs_dir": str(folder / "runs"), "checkpoints_dir": str(folder / "checkpoints")},
        "tracking": {"samples_every": 2},
    }
    for key, value in overrides.items():
        values[key] = values.get(key, {}) | value if isinstance(value, dict) else value
    return build_config(values, "test")


def trainer(config: Config, run: str = "r", *, resume: bool = False) -> Trainer:
    """The trainer of a new run, or of one that is resumed."""
    made = Trainer(open_session(config, run, "test", resume=resume))
    if resume:
        made.state.resume()
    return made


def parameters(made: Trainer) -> dict[str, torch.Tensor]:
    """A copy of what is trained."""
    return {name: p.detach().clone() for name, p in made.session.policy.trainable().items()}


def log(made: Trainer) -> list[dict[str, Any]]:
    """The rows of log.jsonl."""
    lines = (made.session.folders.run / "log.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def ignore(step: int, metrics: dict[str, float], events: Sequence[Event]) -> None:
    """An observer that does nothing."""
