"""Samples CoTs within the memory there is.

Shapes: P problems, G samples per problem, L CoT tokens.
"""

from __future__ import annotations

import numpy as np

from markov_cot.algorithms.types import Rollouts
from markov_cot.models.memory import ROLLOUT, TokenBudgets
from markov_cot.models.policy import Policy
from markov_cot.rollouts.sampling import sample_cots_in_parts


class Sampler:
    """The actor's CoTs, in as many parts as running out of memory has shown to be needed."""

    def __init__(self, policy: Policy, budgets: TokenBudgets) -> None:
        self._policy, self._budgets = policy, budgets

    def cots(self, contexts: list[list[int]], uniform_PGL: np.ndarray) -> Rollouts:
        """Return G CoTs of L tokens for each of P contexts; a token is a function of its context and its number."""
        samples, length = uniform_PGL.shape[1:]
        size = sum(len(context) + length for context in contexts) * samples
        return self._budgets.within(
            ROLLOUT, size, lambda tokens: sample_cots_in_parts(self._policy, contexts, uniform_PGL, tokens)
        )
