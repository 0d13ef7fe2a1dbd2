"""The reward: how probable the answerer finds the true answer after each CoT, and the baseline it is compared with.

Shapes: P problems, G samples per problem, B = P*G sequences (problem-major). Units: nats.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from markov_cot.config.schema import Reward as Settings
from markov_cot.data.problem import Problem
from markov_cot.data.prompts import AnswerContext, Prompts, question_text
from markov_cot.distributed.process_group import ALONE, Processes
from markov_cot.models.logprobs import AnswerScores, score_answers_in_batches, slices_within
from markov_cot.models.policy import Policy
from markov_cot.models.roles import CRITIC
from markov_cot.models.scorer import Scorer
from markov_cot.rewards.forms import FORMS, LOGPROB, rewards_of
from markov_cot.rewards.hooks import RewardBatch, RewardFunction, call_reward
from markov_cot.rewards.registry import ANSWER_LOGPROB, REWARDS
from markov_cot.rollouts.sampling import greedy_cots
from markov_cot.utils.profiling import profile_span


def answer_contexts(
    prompts: Prompts, problems: Sequence[Problem], cots: Sequence[Sequence[int]], samples: int = 1
) -> list[AnswerContext]:
    """The answer context of each of the B CoTs; problem i owns CoTs i*G to (i+1)*G."""
    return [prompts.answer_context(problems[i // samples], cot) for i, cot in enumerate(cots)]


@dataclass(frozen=True, slots=True)
class Rewards:
    """Of B CoTs."""

    logprob_B: Tensor
    """The answerer's log-prob of each true answer, nats."""
    reward_B: Tensor
    """The reward in use: the same, unless the config names another form or function."""


class Reward:
    """The reward of a step's CoTs: the answerer's log-prob of the true answer, or the user's own function of it."""

    def __init__(
        self,
        prompts: Prompts,
        scorer: Scorer,
        config: Settings,
        processes: Processes = ALONE,
        function: RewardFunction | None = None,
    ) -> None:
        """`function` is used instead of what `config.function` names."""
        self._prompts, self._scorer, self._config, self._processes = prompts, scorer, config, processes
        self._name = config.function
        if function is None and config.function != ANSWER_LOGPROB:
            function = REWARDS.resolve(config.function)
        self._function = function
        if config.form != LOGPROB:
            FORMS.resolve(config.form)

    @property
    def is_logprob(self) -> bool:
        """Whether it is in the answer's own nats, so that it can be compared with the baseline's."""
        return self._function is None and self._config.form == LOGPROB

    def contexts(self, problems: Sequence[Problem], cots: Sequence[Sequence[int]]) -> list[AnswerContext]:
        """Return the answer context of each CoT; those of one problem stand side by side."""
        return answer_contexts(self._prompts, problems, cots, len(cots) // max(1, len(problems)))

    def logprobs(self, contexts: Sequence[AnswerContext]) -> Tensor:
        """Return the answerer's log-prob [B] of each answer."""
        return self._score(contexts).reduced(self._config.reduction)

    def __call__(
        self, problems: Sequence[Problem], contexts: Sequence[AnswerContext], cots: Sequence[Sequence[int]], step: int
    ) -> Rewards:
        """Return the rewards of this process's CoTs. `step` counts from 1.

        Raises `HookError` in all processes when the user's own function fails in one.
        """
        scores = self._score(contexts)
        logprob_B = scores.reduced(self._config.reduction)
        if self._function is None:
            return Rewards(logprob_B, logprob_B if self.is_logprob else rewards_of(scores, self._config))
        batch = self._batch(problems, scores, cots, step)
        values: list[float] = []
        with self._processes.together():
            values = call_reward(self._function, self._name, batch, self._config.args)
        return Rewards(logprob_B, logprob_B.new_tensor(values))

    def _score(self, contexts: Sequence[AnswerContext]) -> AnswerScores:
        with profile_span("reward"):
            return self._scorer.answers(contexts, self._config.answerer)

    def _batch(
        self, problems: Sequence[Problem], scores: AnswerScores, cots: Sequence[Sequence[int]], step: int
    ) -> RewardBatch:
        samples = len(cots) // max(1, len(problems))
        owners = [problem for problem in problems for _ in range(samples)]
        return RewardBatch(
            questions=[question_text(problem) for problem in owners],
            answers=[problem.answer for problem in owners],
            cots=self._prompts.decode(cots),
            cot_ids=[list(cot) for cot in cots],
            answer_logprobs=[logp_A.tolist() for logp_A in scores.logps],
            step=step,
        )


class Baseline:
    """b = log pi'(a | c'): the critic's log-prob of the answer after the frozen base's own greedy CoT.

    Deterministic for a problem, so each is computed once and kept.
    """

    def __init__(self, policy: Policy, prompts: Prompts, length: int, config: Settings) -> None:
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
