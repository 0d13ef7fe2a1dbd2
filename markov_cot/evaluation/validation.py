"""Held-out score of the current policy: accuracy, or mean log-prob for continuations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markov_cot.config.schema import Config
from markov_cot.data.problem import Problem
from markov_cot.evaluation.answering import Answer, answer_greedily
from markov_cot.evaluation.statistics import wilson_interval
from markov_cot.grading.extractors import PRIMARY, grade
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
        return {f"eval/{dataset}/{key}": value for key, value in keys.items()}


Marks = list[tuple[bool, float]]
"""Of each answer: whether it is right, and the log-prob of the true one."""


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
    return [mark(answer) for answer in answers]


def mark(answer: Answer) -> tuple[bool, float]:
    """Whether an answer is right, which a continuation never is, and the log-prob of the true one."""
    return answer.problem.kind != "continuation" and answered_right(answer), answer.logprob


def summarise(answers: Sequence[Answer]) -> Score:
    """Score of a list of answers, by the extractor that is the default for their kind."""
    return summarise_marks([mark(answer) for answer in answers], answers[0].problem.kind)


def summarise_marks(marks: Sequence[tuple[bool, float]], kind: str) -> Score:
    """Score of answers to problems of one kind."""
    n = len(marks)
    logprob = sum(logprob for _, logprob in marks) / n
    if kind == "continuation":
        return Score(n, None, 0.0, 0.0, logprob)
    right = sum(right for right, _ in marks)
    low, high = wilson_interval(right, n)
    return Score(n, right / n, low, high, logprob)


def answered_right(answer: Answer) -> bool:
    """Whether the answer extracted from the text is the true one."""
    problem = answer.problem
    _, right = grade(PRIMARY[problem.kind], answer.text, problem.answer, problem.choices)
    return right
