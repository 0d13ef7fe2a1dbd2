"""What a way of training brings to the loop: how a step changes the actor, and by what its best checkpoint is best."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import torch

from markov_cot.evaluation.validation import Score
from markov_cot.models.memory import TokenBudgets
from markov_cot.tracking.multi import MultiTracker
from markov_cot.training.progress import Progress
from markov_cot.training.setup import Session

Report = Callable[[int, MultiTracker], list[dict[str, Any]]]
"""(number of the step, now done; trackers) -> sample rows, with what else is due given to the trackers."""

Merit = tuple[float, float]
"""A number, larger for better checkpoints, and another that decides between equal ones."""


@runtime_checkable
class Remembered(Protocol):
    """What was computed once and stays true for the run; checkpoints keep it."""

    known: dict[str, float]


@runtime_checkable
class Method(Protocol):
    """A way of training."""

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """Of the adapter."""

    @property
    def remembered(self) -> Remembered:
        """What checkpoints keep beside parameters, optimizer and progress."""

    def learn(self, progress: Progress) -> tuple[dict[str, float], Report]:
        """Take the step numbered `progress.step`, from 0. Returns its metrics, and how to report it."""

    def held_out(self, score: Score) -> tuple[dict[str, float], Merit]:
        """Return what else a validation with this score logs, and what the best checkpoint is best by."""

    def best_by(self, score: Score) -> str:
        """Return what that is called."""


MakeMethod = Callable[[Session, TokenBudgets], Method]
