"""A control: the answer's log-prob, but each CoT gets that of another one of its step: there is nothing to learn."""

from __future__ import annotations

from random import Random

from markov_cot.rewards.hooks import RewardBatch


def shuffled(batch: RewardBatch) -> list[float]:
    """Return the step's own rewards in another order, drawn from its number."""
    values = [sum(logprobs) / len(logprobs) for logprobs in batch.answer_logprobs]
    Random(batch.step).shuffle(values)
    return values
