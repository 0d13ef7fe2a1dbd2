"""What alarms advise to change: sentences that several of their texts have, and settings to continue with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

HIGH_LR = 1e-3
USUAL_LR = 1e-4

PULL_BACK = "Lower <optim.lr>, raise <algorithm.kl_weight>."
BACK = "Continue from a checkpoint of before."
KEEP_BEST = "Keep the checkpoint `best`."
LOWER_LR = "Lower <optim.lr>."
LOWER_CLIP = "Lower <optim.grad_clip>."
FEWER_EPOCHS = "Take fewer inner epochs."
FEWER_STEPS = "Train for fewer steps (<validation.patience>)."
RAISE_KL = "Raise <algorithm.kl_weight>."
SHORTEN = "Shorten <rollout.length>."
FLOAT32 = "Compute in float32 (<model.dtype>)."

Changes = dict[str, float | int]
"""Settings by their dotted keys."""


def lower_learning_rate(settings: Mapping[str, Any]) -> Changes:
    """Return the learning rate lowered as a rollback lowers it, and at least to the usual one if it is high."""
    lr = settings["optim.lr"]
    lower = lr * settings["alarms.rollback_lr_factor"]
    return {"optim.lr": two_digits(min(lower, USUAL_LR) if lr >= HIGH_LR else lower)}


def two_digits(value: float) -> float:
    """Return a number rounded to two digits, which are all that such advice is worth."""
    return float(f"{value:.2g}")
