"""The reward: how probable the answerer finds the true answer after each CoT, and the baseline it is compared with.

Shapes: P problems, G samples per problem, B = P*G sequences (problem-major). Units: nats.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

import torch
from torch import Tensor

from markov_cot.config.schema import Reward
from markov_cot.data.problem import Problem
from markov_cot.data.prompts import AnswerContext, Prompts
from markov_cot.models.logprobs import score_answers_in_batches, slices_within
from markov_cot.models.policy import Policy
from markov_cot.rollouts.sampling import greedy_cots

CRITIC = "critic"


def answer_contexts(
    prompts: Prompts, problems: Sequence[Problem], cots: Sequence[Sequence[int]], samples: int = 1
) -> list[AnswerContext]:
    """The answer context of each of the B CoTs; problem i owns CoTs i*G to (i+1)*G."""
    return [prompts.answer_context(problems[i // samples], cot) for i, cot in enumerate(cots)]


class Baseline:
    """b = log pi'(a | c'): the critic's log-prob of the answer after the frozen base's own greedy CoT.

    Deterministic for a problem, so each is computed once and kept.
    """

    def __init__(self, policy: Policy, prompts: Prompts, length: int, config: Reward) -> None:
        self._policy, self._prompts, self._length, self._config = policy, prompts, length, config
        self.known: dict[str, float] = {}
        """b by the problem's key: part of a run's state, since in a batch of other composition it would come out
        different by rounding."""

    def __call__(self, problems: Sequence[Problem], token_budget: int) -> Tensor:
        """b of each problem, [P] in float64, on the CPU."""
        keys = [_key(problem) for problem in problems]
        new = {key: problem for key, problem in zip(keys, problems, strict=True) if key not in self.known}
        if new:
            self.known |= dict(zip(new, self._compute(list(new.values()), token_budget), strict=True))
        return torch.tensor([self.known[key] for key in keys], dtype=torch.float64)

    def remember(self, problems: Sequence[Problem], values: Sequence[float]) -> None:
        """Takes in the b that other processes computed."""
        self.known |= zip(map(_key, problems), values, strict=True)

    def _compute(self, problems: list[Problem], token_budget: int) -> list[float]:
        contexts = [self._prompts.question_context(p) for p in problems]
        cots: list[list[int]] = []
        for part in slices_within([len(context) + self._length for context in contexts], token_budget):
            cots += greedy_cots(self._policy, contexts[part], self._length, CRITIC).tolist()
        answers = answer_contexts(self._prompts, problems, cots)
        return score_answers_in_batches(self._policy, answers, CRITIC, self._config.reduction, token_budget).tolist()


def _key(problem: Problem) -> str:
    """Short, and the same in every process, for all that the baseline of a problem depends on."""
    seen = json.dumps([problem.passage, problem.question, problem.choices, problem.answer, problem.kind])
    return hashlib.sha256(seen.encode()).hexdigest()[:16]
