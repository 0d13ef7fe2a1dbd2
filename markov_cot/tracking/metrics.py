"""The numbers logged of a step, computed from its tensors and texts. docs/metrics.md explains every key.

Shapes: B sequences, L CoT tokens.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from markov_cot.algorithms.types import CotScores
from markov_cot.data.copying import copied
from markov_cot.data.problem import Problem
from markov_cot.distributed.process_group import ALONE, Processes
from markov_cot.grading.cot_text import compression, distinct, find_answer, longest_run, refuses, repetition, symbols

LEAD_WORDS = 6
"""With fewer words before it an answer was not reasoned about: "So the right answer is B" has five."""


def states_answer(cot: str, problem: Problem) -> bool:
    """Whether the CoT holds a true answer as a word, words or number of its own."""
    return find_answer(cot, problem.accepted, problem.kind) is not None


def answers_first(cot: str, problem: Problem) -> bool:
    """Whether the CoT states the true answer before any reasoning.

    That is, with fewer than `LEAD_WORDS` words and no digit before it. A number that the question holds as well says
    nothing, since the CoT may only repeat the question, and neither does the article "A".
    """
    found = find_answer(cot, problem.accepted, problem.kind)
    if found is None or (problem.kind == "numeric" and states_answer(f"{problem.passage} {problem.question}", problem)):
        return False
    lead, rest = cot[: found.start()], cot[found.end() :]
    is_article = problem.answer == "A" and re.match(r"\s+[a-z]", rest) is not None
    return not is_article and len(lead.split()) < LEAD_WORDS and not any(c.isdigit() for c in lead)


def cot_metrics(cots: Sequence[Sequence[int]], texts: Sequence[str], problems: Sequence[Problem]) -> dict[str, float]:
    """Means over a step's B CoTs, given as ids and as texts (problem-major).

    Of continuations there is no `cot/answer_in_cot`: nobody expects the text that follows in the CoT, word for word.
    """
    samples = len(cots) // len(problems)
    owners = [problems[i // samples] for i in range(len(cots))]
    values: dict[str, Iterable[float]] = {
        "cot/repetition": map(repetition, cots),
        "cot/longest_run": map(longest_run, cots),
        "cot/distinct": map(distinct, cots),
        "cot/compression": map(compression, texts),
        "cot/refusal": map(refuses, texts),
        "cot/symbols": map(symbols, texts),
        "cot/copied": map(copied, texts, owners),
        "leak/answer_first": map(answers_first, texts, owners),
    }
    if problems[0].kind != "continuation":  # data are of one kind
        values["cot/answer_in_cot"] = map(states_answer, texts, owners)
    return {key: sum(each) / len(cots) for key, each in values.items()}


def reward_metrics(logprob_B: Tensor, reward_B: Tensor, samples: int, sigma_floor: float) -> dict[str, float]:
    """Means of the answers' log-probs (nats) and of the reward in use; the reward's mean deviation within groups, and
    how many groups deviate less than the floor."""
    sigma_P = reward_B.view(-1, samples).std(1, correction=0)
    return {
        "reward/answer_logprob": logprob_B.mean().item(),
        "reward/value": reward_B.mean().item(),
        "reward/group_std": sigma_P.mean().item(),
        "reward/zero_variance_groups": float((sigma_P < sigma_floor).sum()),
    }


def policy_metrics(scores: CotScores, old_logp_BL: Tensor, clip: float) -> dict[str, Tensor]:
    """Per-sequence values [B] of the actor against its reference and against itself before the update."""
    logp_BL = scores.logp_BL.detach()
    change_BL = logp_BL - old_logp_BL
    ratio_BL = change_BL.exp()
    return {
        "policy/cot_logprob": logp_BL.mean(1),
        "policy/reference_ratio": (logp_BL - scores.reference_logp_BL).mean(1).exp(),
        "policy/kl": scores.kl_BL.detach().mean(1),
        "policy/entropy": scores.entropy_BL.detach().mean(1),
        "ppo/ratio_mean": ratio_BL.mean(1),
        "ppo/ratio_max": ratio_BL.amax(1),
        "ppo/behaviour_kl": (ratio_BL - 1 - change_BL).mean(1),
        "ppo/clip_fraction": ((ratio_BL - 1).abs() > clip).to(ratio_BL.dtype).mean(1),
    }


def sampler_metrics(
    old_logp_BL: Tensor, sampler_logp_BL: Tensor, weight_BL: Tensor | None, cap: float
) -> dict[str, Tensor]:
    """Per-sequence values [B] of the policy before the update against the decoder that sampled; no weight is 1."""
    gap_BL = old_logp_BL - sampler_logp_BL
    truncated_BL = gap_BL.exp() > (math.inf if weight_BL is None else cap)
    weight_BL = torch.ones_like(gap_BL) if weight_BL is None else weight_BL
    return {
        "rollout/logprob_gap": gap_BL.abs().mean(1),
        "rollout/importance_mean": weight_BL.mean(1),
        "rollout/importance_max": weight_BL.amax(1),
        "rollout/importance_truncated": truncated_BL.to(weight_BL.dtype).mean(1),
    }


MAXIMA = ("ppo/ratio_max", "rollout/logprob_gap", "rollout/importance_max")


def summarise(parts: Sequence[dict[str, Tensor]], processes: Processes = ALONE) -> dict[str, float]:
    """Mean over all sequences of all processes' micro-batches; the maximum for those in `MAXIMA`.

    A process may have none, but not all of them.
    """
    together = {key: torch.cat([part[key] for part in parts]) for key in parts[0]} if parts else {}
    if processes.count > 1:
        rows = [row for row in processes.collect({k: v.tolist() for k, v in together.items()}) if row]
        together = {k: torch.tensor([x for row in rows for x in row[k]], dtype=torch.float64) for k in rows[0]}
    return {key: (value.max() if key in MAXIMA else value.mean()).item() for key, value in together.items()}
