"""What a step leaves for people to read: sample CoTs, histograms and full rollouts.

Shapes: P problems, G samples per problem, B = P*G sequences (problem-major), L CoT tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor

from markov_cot.config.schema import Tracking
from markov_cot.data.problem import Problem
from markov_cot.training.collector import Experience

SAMPLES_SHOWN = 3
LOGPROB_DIGITS = 5


def is_due(every: int, step: int) -> bool:
    """Whether what happens every so many steps, 0 for never, happens after this one."""
    return every > 0 and step % every == 0


def shows_samples(settings: Tracking, step: int) -> bool:
    """Whether sample CoTs and histograms are written after a step."""
    return is_due(settings.samples_every, step) or step == 1


def sample_rows(problems: Sequence[Problem], data: Experience, texts: Sequence[str]) -> list[dict[str, Any]]:
    """Return a row for the first CoT of each of the first problems; `texts` are those CoTs."""
    logprobs = data.rewards.logprob_B[:: data.rollouts.samples].tolist()
    return [
        {
            "question": problem.question or problem.passage,
            "answer": problem.answer,
            "cot": text,
            "answer_logprob": round(logprob, 4),
        }
        for problem, text, logprob in zip(problems, texts, logprobs, strict=False)
    ]


def histograms(data: Experience) -> dict[str, Tensor]:
    """Return the distributions over the step's CoTs, by tag."""
    return {"reward/histogram": data.rewards.reward_B, "advantage/histogram": data.advantages.advantage_B}


def rollout_rows(
    step: int, problems: Sequence[Problem], data: Experience, texts: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """Yield a row for each of the B CoTs, in order: everything the update was computed from.

    `behaviour_logprob` is in nats per token under the policy that sampled; `live` says whether the CoT's group had
    enough variance to learn from.
    """
    samples, advantages = data.rollouts.samples, data.advantages
    columns = zip(
        texts,
        data.rollouts.cot_BL.tolist(),
        data.rollouts.behaviour_logp_BL.tolist(),
        data.rewards.logprob_B.tolist(),
        data.rewards.reward_B.tolist(),
        advantages.advantage_B.tolist(),
        advantages.live_B.tolist(),
        strict=True,
    )
    for i, (text, ids, logprobs, answer_logprob, reward, advantage, live) in enumerate(columns):
        problem = problems[i // samples]
        yield {
            "step": step,
            "problem": problem.id,
            "sample": i % samples,
            "question": problem.question,
            "passage": problem.passage,
            "choices": list(problem.choices),
            "answer": problem.answer,
            "cot": text,
            "cot_ids": ids,
            "behaviour_logprob": [round(x, LOGPROB_DIGITS) for x in logprobs],
            "answer_logprob": answer_logprob,
            "reward": reward,
            "advantage": advantage,
            "live": live,
        }
