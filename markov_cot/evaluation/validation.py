"""Held-out score of the current policy: accuracy, or mean log-prob for continuations."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from markov_cot.config.schema import Config
from markov_cot.data.problem import Problem
from markov_cot.evaluation.answering import Answer, answer_greedily
from markov_cot.evaluation.statistics import wilson_interval
from markov_cot.grading.extractors import PRIMARY, credit, grade
from markov_cot.grading.text import ARTICLES
from markov_cot.models.policy import Policy
from markov_cot.models.roles import CRITIC, Role
from markov_cot.rewards.readers import Readers


@dataclass(frozen=True, slots=True)
class Score:
    """A held-out score; `low` and `high` are accuracy's Wilson 95 % interval."""

    n: int
    accuracy: float | None
    """None for continuations, which have no right or wrong."""
    low: float
    high: float
    answer_logprob: float
    """Mean over the problems, nats."""
    f1: float | None = None
    """Mean token F1, where answers are texts."""

    @property
    def measure(self) -> str:
        """Name of what the best checkpoint is best by."""
        return "answer_logprob" if self.accuracy is None else "accuracy"

    @property
    def value(self) -> float:
        """What the best checkpoint is best by."""
        return self.answer_logprob if self.accuracy is None else self.accuracy

    def metrics(self, dataset: str) -> dict[str, float]:
        """As logged keys."""
        keys = {"answer_logprob": self.answer_logprob}
        if self.accuracy is not None:
            keys |= {"accuracy": self.accuracy, "accuracy_low": self.low, "accuracy_high": self.high}
        if self.f1 is not None:
            keys["f1"] = self.f1
        return {f"eval/{dataset}/{key}": value for key, value in keys.items()}


class Mark(NamedTuple):
    """What one answer is worth, and what it was given from."""

    right: bool
    """Never so of a continuation."""
    logprob: float
    """Of the true answer, nats."""
    f1: float | None
    """None unless answers are texts."""
    cot: str
    answer: str
    """The reader's, as it wrote it."""
    predicted: str | None
    """What was read out of it; None where that is nothing."""


Marks = list[Mark]


def validate(
    policy: Policy,
    readers: Readers,
    problems: Sequence[Problem],
    config: Config,
    writer: Role,
    token_budget: int,
) -> Marks:
    """Marks of greedy CoTs by `writer` and the readers' greedy answers.

    With the "critic" as writer it is the untrained base that is marked, which answers where the actor would.
    """
    answers = answer_greedily(
        policy,
        readers.for_base() if writer == CRITIC else readers,
        problems,
        config.rollout.length,
        writer=writer,
        batch=min(config.validation.batch, max(1, token_budget // config.rollout.length)),
        token_budget=token_budget,
    )
    return [mark(answer, config.data.articles) for answer in answers]


def mark(answer: Answer, articles: Sequence[str] = ARTICLES) -> Mark:
    """Grades an answer by the extractor that is the default for its kind."""
    problem = answer.problem
    if problem.kind == "continuation":
        return Mark(False, answer.logprob, None, answer.cot, answer.text, None)
    extractor = PRIMARY[problem.kind].for_articles(articles)
    predicted, right = grade(extractor, answer.text, problem.accepted, problem.choices)
    f1 = credit(extractor, predicted, problem.accepted)
    return Mark(right, answer.logprob, f1, answer.cot, answer.text, predicted)


def answer_rows(problems: Sequence[Problem], marks: Sequence[Mark]) -> Iterator[dict[str, Any]]:
    """Yield a row for each problem: what was asked, the CoT, what was answered from it, and what that is worth."""
    for problem, mark in zip(problems, marks, strict=True):
        about = {
            "problem": problem.id,
            "passage": problem.passage,
            "question": problem.question,
            "choices": list(problem.choices),
            "subject": problem.subject,
            "answer": problem.answer,
            "answers": list(problem.accepted) if problem.kind == "text" else [],
        }
        yield {
            **{key: value for key, value in about.items() if value},
            "cot": mark.cot,
            "reader_answer": mark.answer,
            "predicted": mark.predicted,
            "right": None if problem.kind == "continuation" else mark.right,
            "f1": mark.f1,
            "answer_logprob": mark.logprob if math.isfinite(mark.logprob) else None,
        }


def summarise(answers: Sequence[Answer], articles: Sequence[str] = ARTICLES) -> Score:
    """Score of a list of answers, by the extractor that is the default for their kind."""
    return summarise_marks([mark(answer, articles) for answer in answers], answers[0].problem.kind)


def summarise_marks(marks: Sequence[Mark], kind: str) -> Score:
    """Score of answers to problems of one kind."""
    n = len(marks)
    logprob = sum(mark.logprob for mark in marks) / n
    if kind == "continuation":
        return Score(n, None, 0.0, 0.0, logprob)
    right = sum(mark.right for mark in marks)
    low, high = wilson_interval(right, n)
    credits = [mark.f1 for mark in marks if mark.f1 is not None]
    return Score(n, right / n, low, high, logprob, sum(credits) / n if credits else None)
