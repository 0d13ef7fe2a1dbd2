"""Answers read off CoTs: the one function behind validation during training and every evaluation after it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from markov_cot.config.schema import Reward
from markov_cot.data.problem import Problem
from markov_cot.data.prompts import Prompts
from markov_cot.models.memory import Budgets, FixedBudget
from markov_cot.models.policy import Policy
from markov_cot.models.roles import ACTOR, Role
from markov_cot.models.scorer import Scorer
from markov_cot.rewards.answer_logprob import answer_contexts
from markov_cot.rollouts.sampler import Sampler
from markov_cot.rollouts.sampling import greedy_cots
from markov_cot.tracking.metrics import repetition


@dataclass(frozen=True, slots=True)
class Answer:
    """What the answerer made of one CoT."""

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


def answer_from_cots(
    policy: Policy,
    prompts: Prompts,
    problems: Sequence[Problem],
    cots: Sequence[Sequence[int]],
    config: Reward,
    budgets: Budgets,
) -> list[Answer]:
    """The configured answerer's answer to each problem, from its CoT alone (one CoT a problem).

    Validation, evaluation, samples and lm-evaluation-harness all answer through this function.
    """
    contexts = answer_contexts(prompts, problems, cots)
    logprobs = Scorer(policy, budgets).answers(contexts, config.answerer).reduced(config.reduction).tolist()
    written = [i for i, p in enumerate(problems) if p.kind != "continuation"]
    answers = Sampler(policy, budgets).greedy_answers([contexts[i].ids for i in written], config.answerer)
    texts = dict(zip(written, answers, strict=True))
    return [
        Answer(
            problem=problem,
            cot_ids=tuple(cot),
            cot=policy.tokenizer.decode(cot),
            text=texts.get(i, ""),
            logprob=logprobs[i],
            answer_tokens=len(contexts[i].answer_ids),
            repetition=repetition(cot),
        )
        for i, (problem, cot) in enumerate(zip(problems, cots, strict=True))
    ]


def answer_greedily(
    policy: Policy,
    prompts: Prompts,
    problems: Sequence[Problem],
    length: int,
    config: Reward,
    *,
    writer: Role = ACTOR,
    batch: int,
    token_budget: int,
) -> Iterator[Answer]:
    """Greedy CoTs of `length` tokens by `writer` ("critic" is the untrained base) and their answers, batch by batch."""
    for start in range(0, len(problems), batch):
        part = problems[start : start + batch]
        contexts = [prompts.question_context(p) for p in part]
        cots = greedy_cots(policy, contexts, length, writer).tolist()
        yield from answer_from_cots(policy, prompts, part, cots, config, FixedBudget(token_budget))
