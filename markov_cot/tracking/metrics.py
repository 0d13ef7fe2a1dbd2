"""The numbers logged of a step, computed from its tensors and texts. docs/metrics.md explains every key.

Shapes: B sequences, L CoT tokens.
"""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from markov_cot.algorithms.types import CotScores
from markov_cot.data.copying import copied
from markov_cot.data.problem import Problem
from markov_cot.distributed.process_group import ALONE, Processes

NGRAM = 4
LEAD_WORDS = 6
"""With fewer words before it an answer was not reasoned about: "So the right answer is B" has five."""


def repetition(cot: Sequence[int], n: int = NGRAM) -> float:
    """Share of a CoT's n-grams (of tokens) that occurred in it before: 0 for none, near 1 for "4444444"."""
    grams = list(zip(*(cot[i:] for i in range(n)), strict=False))
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def longest_run(cot: Sequence[int]) -> float:
    """Longest stretch of one repeated token, as a share of the CoT: 1/L where none repeats, 1 for "4444444"."""
    longest = run = 0
    last = None
    for token in cot:
        run = run + 1 if token == last else 1
        longest, last = max(longest, run), token
    return longest / max(len(cot), 1)


def distinct(cot: Sequence[int], n: int = 2) -> float:
    """Share of a CoT's n-grams (of tokens) that differ: distinct-n of Li et al. (arXiv 1510.03055); 1 if too short."""
    grams = list(zip(*(cot[i:] for i in range(n)), strict=False))
    return len(set(grams)) / len(grams) if grams else 1.0


def compression(cot: str) -> float:
    """Bytes of the text over bytes of its zlib compression, as in Whisper (arXiv 2212.04356).

    About 1 for a short text of its own words, above 2.4 for one that repeats itself; 0 for an empty text.
    """
    data = cot.encode(errors="replace")
    return len(data) / len(zlib.compress(data))


def states_answer(cot: str, problem: Problem) -> bool:
    """Whether the CoT holds a true answer as a word, words or number of its own."""
    return _find_answer(cot, problem) is not None


def answers_first(cot: str, problem: Problem) -> bool:
    """Whether the CoT states the true answer before any reasoning.

    That is, with fewer than `LEAD_WORDS` words and no digit before it. A number that the question holds as well says
    nothing, since the CoT may only repeat the question, and neither does the article "A".
    """
    found = _find_answer(cot, problem)
    if found is None or (problem.kind == "numeric" and states_answer(f"{problem.passage} {problem.question}", problem)):
        return False
    lead, rest = cot[: found.start()], cot[found.end() :]
    is_article = problem.answer == "A" and re.match(r"\s+[a-z]", rest) is not None
    return not is_article and len(lead.split()) < LEAD_WORDS and not any(c.isdigit() for c in lead)


def _find_answer(text: str, problem: Problem) -> re.Match[str] | None:
    """The first place where a true answer stands as a word or number of its own; texts in any case."""
    any_of = "|".join(map(re.escape, problem.accepted))
    flags = re.IGNORECASE if problem.kind == "text" else 0
    return re.search(rf"(?<![\w.])(?:{any_of})(?!\w|\.\d)", text, flags)


def cot_metrics(cots: Sequence[Sequence[int]], texts: Sequence[str], problems: Sequence[Problem]) -> dict[str, float]:
    """Means over a step's B CoTs, given as ids and as texts (problem-major)."""
    samples = len(cots) // len(problems)
    owners = [problems[i // samples] for i in range(len(cots))]
    values: dict[str, Iterable[float]] = {
        "cot/repetition": map(repetition, cots),
        "cot/longest_run": map(longest_run, cots),
        "cot/distinct": map(distinct, cots),
        "cot/compression": map(compression, texts),
        "cot/answer_in_cot": map(states_answer, texts, owners),
        "cot/copied": map(copied, texts, owners),
        "leak/answer_first": map(answers_first, texts, owners),
    }
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
