"""A reward of the user's own: one record in, one number a CoT out, checked before it is used.

Shapes: B CoTs of a step (problem-major).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from markov_cot.utils.hooks import check_values, hook


@dataclass(frozen=True, slots=True)
class RewardBatch:
    """What a reward is computed from; every list has one entry a CoT, those of one question side by side."""

    questions: list[str]
    """Passage, question and choices, as the actor read them."""
    answers: list[str]
    """The true ones."""
    cots: list[str]
    """Texts."""
    cot_ids: list[list[int]]
    answer_logprobs: list[list[float]]
    """The first reader's log-probs (nats) of the true answer's tokens after the CoT, newline included."""
    step: int
    """Counted from 1."""

    def __len__(self) -> int:
        return len(self.cots)


RewardFunction = Callable[..., Sequence[float]]
"""(RewardBatch, **reward.args) -> one finite number a CoT; higher is better."""


def call_reward(function: RewardFunction, name: str, batch: RewardBatch, args: dict[str, Any]) -> list[float]:
    """Return the reward of each CoT.

    Raises `HookError`, naming the function and the step, when it raises, or does not return one finite number a CoT.
    """
    with hook("reward", name, batch.step):
        values = function(batch, **args)
    return check_values("reward", name, batch.step, values, len(batch))
