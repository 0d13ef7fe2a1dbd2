"""Writes CoTs and answers within the memory there is.

Shapes: P problems, G samples per problem, L CoT tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol, runtime_checkable

import numpy as np

from markov_cot.algorithms.types import Rollouts
from markov_cot.models.logprobs import slices_within
from markov_cot.models.memory import ROLLOUT, Budgets
from markov_cot.models.policy import Policy
from markov_cot.models.roles import ACTOR, Role
from markov_cot.rollouts.sampling import ANSWER_TOKENS, greedy_answers, greedy_cots, greedy_texts, sample_cots_in_parts


@runtime_checkable
class Engine(Protocol):
    """Draws tokens itself, whole CoTs at a time, where a `Decoder` only reads what was drawn."""

    def write(self, policy: Policy, contexts: Sequence[Sequence[int]], uniform_PGL: np.ndarray) -> Rollouts:
        """Return G CoTs of L tokens by the actor for each of P contexts, with the log-probs they were drawn with."""


class Sampler:
    """What actor or critic write, in as many parts as running out of memory has shown to be needed."""

    def __init__(self, policy: Policy, budgets: Budgets, engine: Engine | None = None) -> None:
        """An `engine` writes the actor's sampled CoTs, and sees to its own memory."""
        self._policy, self._budgets, self._engine = policy, budgets, engine

    def cots(self, contexts: list[list[int]], uniform_PGL: np.ndarray, role: Role = ACTOR) -> Rollouts:
        """Return G CoTs of L tokens for each of P contexts; a token is a function of its context and its number."""
        if self._engine and role == ACTOR and contexts:
            return self._engine.write(self._policy, contexts, uniform_PGL)
        samples, length = uniform_PGL.shape[1:]
        size = sum(len(context) + length for context in contexts) * samples
        return self._budgets.within(
            ROLLOUT, size, lambda tokens: sample_cots_in_parts(self._policy, contexts, uniform_PGL, tokens, role)
        )

    def greedy_cots(self, contexts: list[list[int]], length: int, role: Role) -> list[list[int]]:
        """Return the token ids of one CoT for each context, the most probable token at each position."""

        def write(tokens: int) -> list[list[int]]:
            cots: list[list[int]] = []
            for part in slices_within(widths, tokens):
                cots += greedy_cots(self._policy, contexts[part], length, role).tolist()
            return cots

        widths = [len(context) + length for context in contexts]
        return self._budgets.within(ROLLOUT, sum(widths), write)

    def greedy_answers(
        self, contexts: Sequence[Sequence[int]], role: Role, most: int = ANSWER_TOKENS["numeric"]
    ) -> list[str]:
        """Return the text that each answer context is continued with, of one line and at most so many tokens."""
        return self._texts(greedy_answers, contexts, role, most)

    def greedy_texts(
        self, contexts: Sequence[Sequence[int]], role: Role, most: int, until: Sequence[str] = ()
    ) -> list[str]:
        """Return the text that each context is continued with, of at most so many tokens, before any of `until`."""
        return self._texts(partial(greedy_texts, until=until), contexts, role, most)

    def _texts(
        self, write: Callable[..., list[str]], contexts: Sequence[Sequence[int]], role: Role, most: int
    ) -> list[str]:
        widths = [len(context) + most for context in contexts]

        def within(tokens: int) -> list[str]:
            parts = slices_within(widths, tokens)
            return [text for part in parts for text in write(self._policy, contexts[part], role, most)]

        return self._budgets.within(ROLLOUT, sum(widths), within)
