"""The rewards that `reward.function` may name."""

from __future__ import annotations

from markov_cot.rewards.hooks import RewardFunction
from markov_cot.utils.plugins import Registry

ANSWER_LOGPROB = "answer_logprob"
"""The paper's reward, which `rewards.answer_logprob` computes on tensors."""

REWARDS: Registry[RewardFunction] = Registry("reward", {})
"""Functions of a `RewardBatch`, used instead."""
