"""Runs a policy over items: it writes CoTs, the readers answer from them alone, and everything is recorded.

Shapes: P problems, G samples per problem, B = P*G sequences (problem-major), L CoT tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from markov_cot.data.problem import Problem
from markov_cot.distributed.process_group import ALONE, Processes
from markov_cot.evaluation.answering import Answer, answer_from_cots
from markov_cot.evaluation.record_log import RecordLog
from markov_cot.evaluation.records import Item, Likelihood, Record, Sample, from_json, rounded, to_json
from markov_cot.grading.kinds import LETTERS
from markov_cot.models.memory import SCORE
from markov_cot.models.policy import Policy
from markov_cot.models.roles import ACTOR, CRITIC, Role
from markov_cot.rewards.answer_logprob import Baseline
from markov_cot.rewards.readers import Readers
from markov_cot.rollouts.path_check import check_paths, trial_of
from markov_cot.rollouts.sampler import Sampler
from markov_cot.utils.rng import Stream, generator


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
    writer: Role = ACTOR
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
        readers: Readers,
        writing: GenerationConfig,
        baselines: Mapping[int, float] | None = None,
        written: Mapping[int, Sequence[Sequence[int]]] | None = None,
    ) -> None:
        """What is known already, by index of the item: `baselines`, log-probs after the base's greedy CoT, and the
        CoTs that were `written` for other readers."""
        if writing.temperature is not None:
            policy = policy.at_temperature(writing.temperature)
        self._policy, self._prompts, self._writing = policy, readers.prompts, writing
        # An untrained model both writes and answers: with no adapter, actor and base are one.
        self._readers = readers.for_base() if writing.writer == CRITIC else readers
        self._known, self._written = baselines or {}, written or {}
        self._is_baseline = writing.writer == CRITIC and writing.temperature is None
        self._baseline = Baseline(policy, readers, writing.length)
        self._budgets = readers.budgets
        self._sampler = Sampler(policy, self._budgets)

    def run(
        self,
        items: Sequence[Item],
        log: RecordLog,
        batch: int,
        advance: Callable[[int], None] = lambda _: None,
        processes: Processes = ALONE,
    ) -> list[Record]:
        """Return the records of all items, in their order; those in `log` are not made again.

        `batch` counts sequences. A batch that was interrupted half-way is computed whole, because rounding depends on
        what is computed together. Several processes, whose logs hold the same records, compute a batch each and then
        exchange what they made, so that all of their logs hold all of it.
        """
        with processes.together():
            self.check(items)
        missing = {item.index for item in items} - log.done.keys()
        parts = self._parts(items, batch, processes.count)
        waiting = [part for part in parts if any(item.index in missing for item in part)]
        if kept := len(items) - sum(map(len, waiting)):
            advance(kept)
        for start in range(0, len(waiting), processes.count):
            at_once = waiting[start : start + processes.count]
            made: list[Record] = []
            with processes.together():
                for part in at_once[processes.rank : processes.rank + 1]:
                    made = self.records(part)
            made = _exchanged(made, processes)
            with processes.together():
                log.append(record for record in made if record.index in missing)
            advance(sum(map(len, at_once)))
        return [log.done[item.index] for item in items]

    def _parts(self, items: Sequence[Item], batch: int, processes: int) -> list[Sequence[Item]]:
        """Batches of at most `batch` sequences; where items are few, as small as gives each process one."""
        size = max(1, min(batch // self._writing.samples, -(-len(items) // processes)))
        return [items[start : start + size] for start in range(0, len(items), size)]

    def records(self, items: Sequence[Item]) -> list[Record]:
        """Records of a few items, computed together."""
        self.check(items)
        problems = [item.problem for item in items]
        samples = self._writing.samples
        repeated = [problem for problem in problems for _ in range(samples)]
        cots = self.write_cots(items)
        answers = answer_from_cots(self._readers, repeated, cots)
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
        if all(item.index in self._written for item in items):
            return [list(cot) for item in items for cot in self._written[item.index]]
        writing = self._writing
        contexts = [self._prompts.question_context(item.problem) for item in items]
        if writing.temperature is None:
            return self._sampler.greedy_cots(contexts, writing.length, writing.writer)
        shape = (writing.samples, writing.length)
        # Index 0 of the stream draws which items are evaluated.
        uniform_PGL = np.stack(
            [generator(writing.seed, Stream.EVALUATION, item.index + 1).random(shape) for item in items]
        )
        sampled: list[list[int]] = self._sampler.cots(contexts, uniform_PGL, writing.writer).cot_BL.tolist()
        return sampled

    def check(self, items: Sequence[Item]) -> None:
        """Before the first of a policy's items: makes sure that what is computed is what its model computes."""
        if self._policy.paths.checked:
            return
        problems = [item.problem for item in items]
        trial = trial_of(self._prompts, (problems,), self._writing.length, lambda _: True, trains=False)
        if trial:
            check_paths(self._policy, trial)

    def _baselines(self, items: Sequence[Item]) -> list[float]:
        if all(item.index in self._known for item in items):
            return [self._known[item.index] for item in items]
        problems = [item.problem for item in items]
        size = sum(len(self._prompts.question_context(problem)) + self._writing.length for problem in problems)
        values: list[float] = self._budgets.within(
            SCORE, size, lambda tokens: self._baseline(problems, tokens)
        ).tolist()
        return values

    def _likelihoods(
        self, problems: Sequence[Problem], cots: Sequence[Sequence[int]], of: Callable[[Problem], tuple[str, ...]]
    ) -> list[tuple[Likelihood, ...]]:
        """After each CoT, the likelihood of each of the texts that `of` names for its problem."""
        reader = self._readers.first
        contexts = [
            reader.context(problem, cot, text, newline=False)
            for problem, cot in zip(problems, cots, strict=True)
            for text in of(problem)
        ]
        scores = iter(reader.score(contexts, self._budgets).summed())
        return [tuple(Likelihood(rounded(s), g) for s, g in islice(scores, len(of(p)))) for p in problems]


def _sample(answer: Answer, choices: tuple[Likelihood, ...], letters: tuple[Likelihood, ...]) -> Sample:
    logprob, repeated = rounded(answer.logprob), rounded(answer.repetition)
    return Sample(answer.cot, answer.text, logprob, repeated, choices, letters, answer.cot_ids)


def _exchanged(own: list[Record], processes: Processes) -> list[Record]:
    """The records of all processes, in order of rank."""
    if processes.count == 1:
        return own
    return [from_json(row) for rows in processes.collect([to_json(record) for record in own]) for row in rows]
