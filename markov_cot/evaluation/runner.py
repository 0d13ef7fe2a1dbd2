"""Runs a policy over items: it writes CoTs, the answerer answers from them alone, and everything is recorded.

Shapes: P problems, G samples per problem, B = P*G sequences (problem-major), L CoT tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from markov_cot.config.schema import Reward
from markov_cot.data.problem import Problem
from markov_cot.data.prompts import Prompts
from markov_cot.evaluation.answering import Answer, answer_from_cots
from markov_cot.evaluation.record_log import RecordLog
from markov_cot.evaluation.records import Item, Likelihood, Record, Sample, rounded
from markov_cot.grading.kinds import LETTERS
from markov_cot.models.logprobs import score_choices
from markov_cot.models.policy import Policy
from markov_cot.rewards.answer_logprob import CRITIC, Baseline
from markov_cot.rollouts.path_check import check_paths, trial_of
from markov_cot.rollouts.sampling import greedy_cots, sample_cots
from markov_cot.utils.rng import Stream, generator

TOKEN_BUDGET = 16384
"""Most tokens (sequences x padded length) scored in one forward."""


@dataclass(frozen=True, slots=True)
class GenerationConfig:
    """How CoTs are written."""

    length: int
    """L: tokens of each."""
    samples: int = 1
    """G: CoTs a problem."""
    temperature: float | None = None
    """None is greedy, which gives one and the same CoT however often."""
    seed: int = 0
    writer: str = "actor"
    """"actor", or "critic" for the untrained base."""

    def __post_init__(self) -> None:
        if self.temperature is None and self.samples != 1:
            raise ValueError(f"{self.samples} samples need a temperature")


class Runner:
    """One policy under one set of settings.

    A sampled CoT is a function of (seed, index of its item), whatever the batch and whichever other items there are.
    """

    def __init__(
        self,
        policy: Policy,
        prompts: Prompts,
        reward: Reward,
        writing: GenerationConfig,
        baselines: Mapping[int, float] | None = None,
    ) -> None:
        """`baselines` are those already known, by index of their item: log-probs after the base's greedy CoT."""
        if writing.temperature is not None:
            policy = policy.at_temperature(writing.temperature)
        # An untrained model both writes and answers: with no adapter, actor and critic are one.
        answerer = CRITIC if writing.writer == CRITIC else reward.answerer
        self._policy, self._prompts, self._writing = policy, prompts, writing
        self._reward = reward.model_copy(update={"answerer": answerer})
        self._known = baselines or {}
        self._is_baseline = writing.writer == CRITIC and writing.temperature is None
        self._baseline = Baseline(policy, prompts, writing.length, reward)

    def run(
        self, items: Sequence[Item], log: RecordLog, batch: int, advance: Callable[[int], None] = lambda _: None
    ) -> list[Record]:
        """Records of all items, in their order; those in `log` are not made again. `batch` counts sequences.

        A batch that was interrupted half-way is computed whole, because rounding depends on what is computed together.
        """
        self._check_paths(items)
        size = max(1, batch // self._writing.samples)
        for start in range(0, len(items), size):
            part = items[start : start + size]
            if missing := {item.index for item in part} - log.done.keys():
                log.append(record for record in self.records(part) if record.index in missing)
            advance(len(part))
        return [log.done[item.index] for item in items]

    def records(self, items: Sequence[Item]) -> list[Record]:
        """Records of a few items, computed together."""
        self._check_paths(items)
        problems = [item.problem for item in items]
        samples = self._writing.samples
        repeated = [problem for problem in problems for _ in range(samples)]
        cots = self.write_cots(items)
        answers = answer_from_cots(self._policy, self._prompts, repeated, cots, self._reward, TOKEN_BUDGET)
        texts = self._likelihoods(repeated, cots, lambda problem: problem.choices)
        letters = self._likelihoods(repeated, cots, lambda problem: tuple(LETTERS[: len(problem.choices)]))
        made = [_sample(*parts) for parts in zip(answers, texts, letters, strict=True)]
        baselines = [answer.logprob for answer in answers] if self._is_baseline else self._baselines(items)
        return [
            Record(
                index=item.index,
                answer_tokens=answers[i * samples].answer_tokens,
                baseline_logprob=rounded(baselines[i]),
                samples=tuple(made[i * samples : (i + 1) * samples]),
            )
            for i, item in enumerate(items)
        ]

    def write_cots(self, items: Sequence[Item]) -> list[list[int]]:
        """Token ids of the B CoTs."""
        writing = self._writing
        contexts = [self._prompts.question_context(item.problem) for item in items]
        if writing.temperature is None:
            greedy: list[list[int]] = greedy_cots(self._policy, contexts, writing.length, writing.writer).tolist()
            return greedy
        shape = (writing.samples, writing.length)
        # Index 0 of the stream draws which items are evaluated.
        uniform_BL = np.concatenate(
            [generator(writing.seed, Stream.EVALUATION, item.index + 1).random(shape) for item in items]
        )
        sampled: list[list[int]] = sample_cots(self._policy, contexts, uniform_BL, writing.writer).cot_BL.tolist()
        return sampled

    def _check_paths(self, items: Sequence[Item]) -> None:
        """Before the first of a policy's items: makes sure that what is computed is what its model computes."""
        problems = [item.problem for item in items]
        trial = trial_of(self._prompts, (problems,), self._writing.length, lambda _: True, trains=False)
        if trial:
            check_paths(self._policy, trial)

    def _baselines(self, items: Sequence[Item]) -> list[float]:
        if all(item.index in self._known for item in items):
            return [self._known[item.index] for item in items]
        values: list[float] = self._baseline([item.problem for item in items], TOKEN_BUDGET).tolist()
        return values

    def _likelihoods(
        self, problems: Sequence[Problem], cots: Sequence[Sequence[int]], of: Callable[[Problem], tuple[str, ...]]
    ) -> list[tuple[Likelihood, ...]]:
        """After each CoT, the likelihood of each of the texts that `of` names for its problem."""
        contexts = [
            self._prompts.answer_context(problem, cot, text, newline=False)
            for problem, cot in zip(problems, cots, strict=True)
            for text in of(problem)
        ]
        scores = iter(score_choices(self._policy, contexts, self._reward.answerer, TOKEN_BUDGET))
        return [tuple(Likelihood(rounded(s), g) for s, g in islice(scores, len(of(p)))) for p in problems]


def _sample(answer: Answer, choices: tuple[Likelihood, ...], letters: tuple[Likelihood, ...]) -> Sample:
    return Sample(answer.cot, answer.text, rounded(answer.logprob), rounded(answer.repetition), choices, letters)
