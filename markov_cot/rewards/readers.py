"""Who answers from a CoT alone: the frozen base, the actor, the actor of some steps ago, or other models.

Shapes: B CoTs, R readers. Units: nats.
"""

from __future__ import annotations

import contextlib
import difflib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from markov_cot.config.reward import ACTOR as ACTOR_READER
from markov_cot.config.reward import BASE, LAGGED
from markov_cot.config.reward import Reward as Settings
from markov_cot.data.problem import Problem
from markov_cot.data.prompts import AnswerContext, Prompts
from markov_cot.grading.kinds import Kind
from markov_cot.models.adapter_copy import AdapterCopy
from markov_cot.models.logprobs import AnswerScores
from markov_cot.models.memory import Budgets
from markov_cot.models.policy import Policy
from markov_cot.models.roles import ACTOR, CRITIC, Role
from markov_cot.models.scorer import Scorer
from markov_cot.rewards.forms import GAIN, rewards_of
from markov_cot.rollouts.sampler import Sampler
from markov_cot.rollouts.sampling import ANSWER_TOKENS
from markov_cot.utils.errors import UserError

ROLES: dict[str, Role] = {BASE: CRITIC, ACTOR_READER: ACTOR, LAGGED: ACTOR}


@dataclass(frozen=True)
class Reader:
    """One model that is shown CoTs and asked for answers."""

    name: str
    """As in metrics: base, actor, lagged, or the last part of a model's name."""
    policy: Policy
    prompts: Prompts
    """Of its own tokenizer."""
    role: Role
    lag: AdapterCopy | None = None
    """Of the reader `lagged`: the state of the adapter that it reads with."""
    writer: Prompts | None = None
    """The actor's, where its tokenizer is not the reader's, so that CoTs come as text."""

    def context(
        self, problem: Problem, cot: Sequence[int], answer: str | None = None, *, newline: bool = True
    ) -> AnswerContext:
        """Return what it reads of the actor's `cot`, and the ids of `answer` (the first true one by default)."""
        if not self.writer:
            return self.prompts.answer_context(problem, cot, answer, newline=newline)
        context = self.prompts.answer_context(problem, self.translated(cot)[0], answer, newline=newline)
        if (tokens := len(context.ids) + len(context.answer_ids)) > self.policy.max_length:
            raise UserError(
                f"reader {self.name}: a CoT of {len(cot)} tokens is one of {tokens} to it, with its prompt and the "
                f"answer, and its context has {self.policy.max_length}; lower rollout.length, or use another reader"
            )
        return context

    def translated(self, cot: Sequence[int]) -> tuple[str, int]:
        """Return a CoT as text for another tokenizer, and how many characters do not come through.

        The reader's special tokens are taken out, so that no CoT can end its turn or open another. Of the characters
        that are lost, some were no whole ones in the CoT, and the reader's tokenizer does not give others back.
        """
        assert self.writer
        [text] = self.writer.decode([cot])
        clean, before = text, None
        while clean != before:  # what is left around one may make up another
            before = clean
            for token in self._special_tokens:
                clean = clean.replace(token, "")
        lost = len(text) - len(clean) + clean.count("\N{REPLACEMENT CHARACTER}")
        ids = self.prompts.tokenizer(clean, add_special_tokens=False, verbose=False).input_ids
        return clean, lost + _differing(clean, self.prompts.tokenizer.decode(ids, clean_up_tokenization_spaces=False))

    @cached_property
    def _special_tokens(self) -> list[str]:
        tokenizer = self.prompts.tokenizer
        added = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
        return sorted(added | set(tokenizer.all_special_tokens), key=len, reverse=True)

    def score(self, contexts: Sequence[AnswerContext], budgets: Budgets) -> AnswerScores:
        """Return the log-probs of the contexts' answers."""
        with self._in_its_state():
            return Scorer(self.policy, budgets).answers(contexts, self.role)

    def write(self, contexts: Sequence[Sequence[int]], kind: Kind, budgets: Budgets) -> list[str]:
        """Return the greedy answer, of one kind, that continues each context."""
        with self._in_its_state():
            return Sampler(self.policy, budgets).greedy_answers(contexts, self.role, ANSWER_TOKENS[kind])

    def tokens(self, problem: Problem, cot: Sequence[int]) -> int:
        """Return how many tokens it reads of a CoT, with its prompt and the longest answer there may be."""
        context = self.context(problem, cot)
        return len(context.ids) + max(len(context.answer_ids), ANSWER_TOKENS[problem.kind])

    def fits(self, problem: Problem, length: int) -> bool:
        """Whether what it reads of a CoT of `length` tokens, and the answer, stay within its context.

        In another tokenizer the CoT is given room for twice as many tokens.
        """
        context = self.prompts.answer_context(problem, [0] * (2 * length if self.writer else length))
        answer = max(len(context.answer_ids), ANSWER_TOKENS[problem.kind])
        return len(context.ids) + answer <= self.policy.max_length

    @contextlib.contextmanager
    def _in_its_state(self) -> Iterator[None]:
        with torch.no_grad(), self.lag.in_place() if self.lag else contextlib.nullcontext():
            yield


@dataclass(frozen=True)
class Reading:
    """What the readers make of B CoTs."""

    contexts: list[AnswerContext]
    """Of the first reader, each with the accepted answer that counts."""
    scores: AnswerScores
    """Of the first reader."""
    logprob_B: Tensor
    """The readers' log-prob of the true answer, reduced over its tokens and combined."""
    reward_B: Tensor
    """The same in the form in use."""
    by_reader: Mapping[str, Tensor]
    """The reward [B] of each of several readers, by name."""


@dataclass(frozen=True)
class Readers:
    """All readers of a run, and how their log-probs become one number a CoT."""

    readers: tuple[Reader, ...]
    prompts: Prompts
    """The actor's."""
    settings: Settings
    budgets: Budgets

    @property
    def first(self) -> Reader:
        """The one that writes answers."""
        return self.readers[0]

    def within(self, budgets: Budgets) -> Readers:
        """Return the same readers under other limits of memory."""
        return replace(self, budgets=budgets)

    def for_base(self) -> Readers:
        """Return the readers of CoTs by the untrained base, which answers for itself where the actor would."""
        readers = tuple(
            replace(reader, name=BASE, role=CRITIC, lag=None) if reader.role == ACTOR else reader
            for reader in self.readers
        )
        return replace(self, readers=readers)

    @property
    def lag(self) -> AdapterCopy | None:
        """What the reader `lagged` reads with; None where there is no such reader."""
        return next((reader.lag for reader in self.readers if reader.lag), None)

    def set_lag(self, values: Mapping[str, Tensor]) -> None:
        """Have the reader `lagged`, if there is one, read with these values of the adapter; the present if none."""
        if self.lag and values:
            self.lag.load(values)
        elif self.lag:
            self.lag.take()

    def follow(self, step: int) -> None:
        """Have the reader `lagged`, if there is one, follow the actor; after each step, counted from 1."""
        if lag := self.lag:
            if self.settings.lag_decay is not None:
                lag.average(self.settings.lag_decay)
            elif step % self.settings.lag_every == 0:
                lag.take()

    def read(self, problems: Sequence[Problem], cots: Sequence[Sequence[int]]) -> Reading:
        """Return the readers' scores of the true answers after B CoTs; the i-th is of problems[i]."""
        device = self.first.policy.device
        each = [self._chosen(reader, problems, cots) for reader in self.readers]
        logprob_RB = torch.stack([scores.reduced(self.settings.reduction).to(device) for _, scores in each])
        reward_RB = torch.stack([rewards_of(scores, self.settings).to(device) for _, scores in each])
        if self.settings.form == GAIN:
            reward_RB = reward_RB - self._without_cot(problems)
        contexts, scores = each[0]
        return Reading(
            contexts,
            scores,
            combined(logprob_RB, self.settings.combine),
            combined(reward_RB, self.settings.combine),
            {reader.name: reward_B for reader, reward_B in zip(self.readers, reward_RB, strict=True)},
        )

    def lost_characters(self, cots: Sequence[Sequence[int]]) -> float | None:
        """Return how many characters of a CoT do not come through to readers of other tokenizers: the mean over CoTs.

        Of several such readers the largest; None where there is none.
        """
        means = [sum(r.translated(cot)[1] for cot in cots) / max(1, len(cots)) for r in self.readers if r.writer]
        return max(means, default=None)

    def _chosen(
        self, reader: Reader, problems: Sequence[Problem], cots: Sequence[Sequence[int]]
    ) -> tuple[list[AnswerContext], AnswerScores]:
        """Contexts and scores of the accepted answers that count, one for each CoT."""
        best = self.settings.answers == "best"
        accepted = [problem.accepted if best else (problem.answer,) for problem in problems]
        contexts = [
            reader.context(problem, cot, answer)
            for problem, cot, answers in zip(problems, cots, accepted, strict=True)
            for answer in answers
        ]
        scores = reader.score(contexts, self.budgets)
        if len(contexts) == len(problems):
            return contexts, scores
        values, chosen, start = scores.reduced(self.settings.reduction).tolist(), [], 0
        for answers in accepted:
            chosen.append(max(range(start, start + len(answers)), key=values.__getitem__))
            start += len(answers)
        return [contexts[i] for i in chosen], scores.take(chosen)

    def _without_cot(self, problems: Sequence[Problem]) -> Tensor:
        """The log-prob [R, B] of each answer after an empty CoT, computed once for CoTs of one problem."""
        different = list({id(problem): problem for problem in problems}.values())
        place = {id(problem): i for i, problem in enumerate(different)}
        nothing: list[list[int]] = [[] for _ in different]
        empty_RP = torch.stack(
            [
                self._chosen(reader, different, nothing)[1]
                .reduced(self.settings.reduction)
                .to(self.first.policy.device)
                for reader in self.readers
            ]
        )
        return empty_RP[:, [place[id(problem)] for problem in problems]]


def fits_context(policy: Policy, readers: Readers, length: int, problem: Problem) -> bool:
    """Whether question and CoT stay within the actor's context, and CoT and answer within each reader's."""
    asked = len(readers.prompts.question_context(problem)) + length
    return asked <= policy.max_length and all(reader.fits(problem, length) for reader in readers.readers)


def check_room(readers: Readers, problems: Sequence[Problem], length: int) -> None:
    """Raise `UserError` for a reader whose context is too short for CoTs of `length` tokens on any of the problems."""
    for reader in readers.readers:
        if reader.prompts is not readers.prompts and not any(reader.fits(problem, length) for problem in problems):
            raise UserError(
                f"reader {reader.name}: its context of {reader.policy.max_length} tokens has no room for a CoT of "
                f"{length} tokens, its prompt and an answer; lower rollout.length, or use another reader"
            )


def combined(values_RB: Tensor, how: str) -> Tensor:
    """Return [B]: the readers' mean, their minimum, or softmin = -log(mean_r exp(-values_r)), between the two.

    softmin is in the values' own unit, at temperature 1.
    """
    if how == "min":
        return values_RB.amin(0)
    if how == "softmin":
        return math.log(len(values_RB)) - torch.logsumexp(-values_RB, 0)
    return values_RB.mean(0)


def _differing(text: str, other: str) -> int:
    """Characters of `text` that are not in `other`, spaces around it aside."""
    text, other = text.strip(), other.strip()
    if text == other:
        return 0
    blocks = difflib.SequenceMatcher(None, text, other, autojunk=False).get_matching_blocks()
    return len(text) - sum(block.size for block in blocks)
