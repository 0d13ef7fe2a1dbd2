"""Continues CoTs that were begun, as their writer would."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from markov_cot.analysis.changes import Begun
from markov_cot.analysis.perturbations import FAMILIES
from markov_cot.evaluation.runner import GenerationConfig
from markov_cot.models.policy import Policy
from markov_cot.rewards.readers import Readers
from markov_cot.rollouts.sampler import Sampler
from markov_cot.utils.errors import UserError
from markov_cot.utils.rng import Stream, generator

_CONTINUATION = len(FAMILIES) + 2
"""Of the numbers drawn for an item's perturbations."""


class Continuation:
    """Writes on with a policy, greedily or at the temperature that the CoTs were written with."""

    def __init__(self, policy: Policy, readers: Readers, writing: GenerationConfig) -> None:
        tempered = policy if writing.temperature is None else policy.at_temperature(writing.temperature)
        self._sampler, self._writing = Sampler(tempered, readers.budgets), writing
        self._prompts, self._room = readers.prompts, policy.max_length

    def __call__(self, begun: Sequence[Begun]) -> list[list[int]]:
        """Return what continues each CoT, exactly the tokens that it is missing."""
        contexts = [[*self._prompts.question_context(each.item.problem), *each.cot] for each in begun]
        found: list[list[int]] = [[] for _ in begun]
        for part in self._within_room(contexts, begun):
            length = max(begun[i].missing for i in part)
            for i, tokens in zip(part, self._written([(contexts[i], begun[i]) for i in part], length), strict=True):
                found[i] = tokens[: begun[i].missing]
        return found

    def _written(self, part: Sequence[tuple[list[int], Begun]], length: int) -> list[list[int]]:
        contexts = [context for context, _ in part]
        if self._writing.temperature is None:
            return self._sampler.greedy_cots(contexts, length, self._writing.writer)
        seed = self._writing.seed
        uniform_PGL = np.stack(
            [
                generator(seed, Stream.PERTURBATION, each.item.index, _CONTINUATION).random((1, length))
                for _, each in part
            ]
        )
        sampled: list[list[int]] = self._sampler.cots(contexts, uniform_PGL, self._writing.writer).cot_BL.tolist()
        return sampled

    def _within_room(self, contexts: Sequence[list[int]], begun: Sequence[Begun]) -> Iterator[list[int]]:
        """Places of CoTs that can be continued together, the shorter continuations first: each gets as many tokens as
        the one that is missing most."""
        part: list[int] = []
        longest = 0
        for i in sorted(range(len(begun)), key=lambda i: begun[i].missing):
            length = len(contexts[i]) + begun[i].missing
            if length > self._room:
                raise UserError(
                    f"question and changed CoT are {length} tokens, and the model's context has {self._room}; pass "
                    "--unit tokens, lower rollout.length, or leave out --test mistakes"
                )
            longest = max(longest, len(contexts[i]))
            if part and longest + begun[i].missing > self._room:
                yield part
                part, longest = [], len(contexts[i])
            part.append(i)
        if part:
            yield part
