"""What copying costs, whatever the reward is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from markov_cot.config.reward import Reward as Settings
from markov_cot.data.problem import Problem
from markov_cot.data.prompts import Prompts
from markov_cot.models.memory import FixedBudget
from markov_cot.models.policy import Policy
from markov_cot.rewards.answer_logprob import Reward, Rewards
from markov_cot.rewards.hooks import RewardBatch
from markov_cot.rewards.reader_models import make_readers

PASSAGE = Problem("t", "Who?", "Ada", "text", passage="Ada wrote the first program in 1843.")
COPY, HALF, OWN = " Ada wrote the first program", " Ada wrote the first man", " It was Ada herself alone"
"""All of the first one's two 4-grams are copied, one of the second's two, none of the third's."""


@pytest.fixture(scope="module")
def policy(make_policy: Callable[..., Policy]) -> Policy:
    return make_policy(adapter="random")


def rewards(policy: Policy, function: Any = None, **settings: Any) -> Rewards:
    readers = make_readers(Settings(**settings), policy, Prompts(policy.tokenizer), FixedBudget(10_000))
    cots = [policy.tokenizer(text, add_special_tokens=False).input_ids for text in (COPY, HALF, OWN)]
    return Reward(readers, Settings(**settings), function=function)([PASSAGE], cots, 1)[1]


def test_each_cot_pays_for_its_share(policy: Policy) -> None:
    free, dear = rewards(policy), rewards(policy, copy_penalty=3.0)
    assert free.penalty_B.tolist() == [0.0, 0.0, 0.0]
    assert dear.penalty_B.tolist() == [3.0, 1.5, 0.0]
    torch.testing.assert_close(dear.reward_B, free.reward_B - dear.penalty_B, rtol=0, atol=1e-6)
    assert torch.equal(dear.logprob_B, free.logprob_B)


def test_it_is_taken_off_a_reward_of_ones_own_too(policy: Policy) -> None:
    def one(batch: RewardBatch) -> list[float]:
        return [1.0] * len(batch.cots)

    assert rewards(policy, one, copy_penalty=2.0).reward_B.tolist() == [-1.0, 0.0, 1.0]
