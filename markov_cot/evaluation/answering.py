"""Answers read off CoTs: the one function behind validation during training and every evaluation after it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from markov_cot.data.problem import Problem
from markov_cot.grading.cot_text import repetition
from markov_cot.models.memory import FixedBudget
from markov_cot.models.policy import Policy
from markov_cot.models.roles import ACTOR, Role
from markov_cot.rewards.readers import Readers
from markov_cot.rollouts.sampling import greedy_cots


@dataclass(frozen=True, slots=True)
class Answer:
    """What the readers made of one CoT."""

    problem: Problem
    cot_ids: tuple[int, ...]
    cot: str
    text: str
    """The greedy answer; empty for continuations, whose answers are scored, not written."""
    logprob: float
    """log-prob of the true answer (nats, per token if the reward's reduction is "mean")."""
    answer_tokens: int
    """Tokens of the true answer, its newline included."""
    repetition: float


def answer_from_cots(readers: Readers, problems: Sequence[Problem], cots: Sequence[Sequence[int]]) -> list[Answer]:
    """The readers' answer to each problem, from its CoT alone (one CoT a problem); the first of them writes it.

    Validation, evaluation, samples and lm-evaluation-harness all answer through this function.
    """
    reading = readers.read(problems, cots)
    logprobs, contexts = reading.logprob_B.tolist(), reading.contexts
    written = [i for i, p in enumerate(problems) if p.kind != "continuation"]
    texts: dict[int, str] = {}
    for kind in dict.fromkeys(problems[i].kind for i in written):
        of_kind = [i for i in written if problems[i].kind == kind]
        answers = readers.first.write([contexts[i].ids for i in of_kind], kind, readers.budgets)
        texts |= zip(of_kind, answers, strict=True)
    return [
        Answer(
            problem=problem,
            cot_ids=tuple(cot),
            cot=text,
            text=texts.get(i, ""),
            logprob=logprobs[i],
            answer_tokens=len(contexts[i].answer_ids),
            repetition=repetition(cot),
        )
        for i, (problem, cot, text) in enumerate(zip(problems, cots, readers.prompts.decode(cots), strict=True))
    ]


def answer_greedily(
    policy: Policy,
    readers: Readers,
    problems: Sequence[Problem],
    length: int,
    *,
    writer: Role = ACTOR,
    batch: int,
    token_budget: int,
) -> Iterator[Answer]:
    """Greedy CoTs of `length` tokens by `writer` ("critic" is the untrained base) and their answers, batch by batch.

    A token budget limits what is read at once.
    """
    for start in range(0, len(problems), batch):
        part = problems[start : start + batch]
        contexts = [readers.prompts.question_context(p) for p in part]
        cots = greedy_cots(policy, contexts, length, writer).tolist()
        yield from answer_from_cots(readers.within(FixedBudget(token_budget)), part, cots)
