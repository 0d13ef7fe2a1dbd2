"""Writing tokens: sampled CoTs of fixed length, greedy CoTs, and greedy answers.

Shapes: P prompts, G samples per prompt, B = P*G sequences (prompt-major), L CoT tokens, d hidden size, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from markov_cot.algorithms.types import Rollouts
from markov_cot.grading.kinds import Kind
from markov_cot.models.compat import has_float64
from markov_cot.models.policy import Policy
from markov_cot.models.roles import ACTOR, Role
from markov_cot.rollouts.decode import decode
from markov_cot.utils.rng import Stream, generator

ANSWER_TOKENS: dict[Kind, int] = {"numeric": 16, "choice": 16, "text": 32, "continuation": 16}
"""Most tokens of a generated answer."""
LOOKED_FOR = 16
"""Tokens after which it is looked whether a text has come to its end."""


def uniforms(seed: int, step: int, sequences: int, length: int, attempt: int = 0) -> np.ndarray:
    """[sequences, length] float64 in [0, 1): one number per (global sequence, token) of a step's attempt."""
    return generator(seed, Stream.SAMPLING, step, attempt).random((sequences, length))


def draw(probability_BV: Tensor, uniform_B: Tensor) -> Tensor:
    """Tokens by inverse CDF: the first whose cumulative probability exceeds u. One of probability 0 is never drawn.

    Of probabilities that are NaN, the last token, whose log-prob is NaN too. Summed up in float64, on the CPU where the
    device has none: in float32 a rare token adds nothing to a sum near 1, and so could never be drawn.
    """
    device = probability_BV.device
    where = device if has_float64(device) else torch.device("cpu")
    cumulative_BV = probability_BV.to(where).cumsum(-1, dtype=torch.float64)
    total_B1 = cumulative_BV[:, -1:]
    # Rounding may lift u * total to total itself, which no cumulative probability exceeds.
    below_total_B1 = torch.nextafter(total_B1, torch.zeros_like(total_B1))
    target_B1 = torch.minimum(uniform_B[:, None].to(total_B1) * total_B1, below_total_B1)
    token_B1 = torch.searchsorted(cumulative_BV, target_B1, right=True)
    return token_B1.squeeze(1).clamp_(max=probability_BV.shape[1] - 1).to(device)


@torch.no_grad()
def sample_cots(policy: Policy, contexts: list[list[int]], uniform_BL: np.ndarray, role: Role = ACTOR) -> Rollouts:
    """CoTs of exactly L tokens by `role`, G = B / P for each context, with their behaviour log-probs."""
    samples = len(uniform_BL) // len(contexts)
    uniform = torch.from_numpy(uniform_BL)
    if has_float64(policy.device):
        uniform = uniform.to(policy.device)
    logps: list[Tensor] = []

    def pick(hidden_Bd: Tensor, position: int) -> Tensor:
        probability_BV = policy.cot_logits(hidden_Bd).softmax(-1)
        token_B = draw(probability_BV, uniform[:, position])
        logps.append(probability_BV.gather(1, token_B[:, None]).squeeze(1).log())
        return token_B

    with policy.acting_as(role):
        cot_BL = decode(policy, contexts, uniform_BL.shape[1], pick, samples)
    return Rollouts(contexts, cot_BL, torch.stack(logps, 1), samples)


def sample_cots_in_parts(
    policy: Policy, contexts: list[list[int]], uniform_PGL: np.ndarray, token_budget: int, role: Role = ACTOR
) -> Rollouts:
    """CoTs by `role`, as many at once as `token_budget` allows to be kept: whole groups, or parts of one."""
    samples, length = uniform_PGL.shape[1:]
    if not contexts:
        none_BL = torch.zeros((0, length), device=policy.device)
        return Rollouts([], none_BL.long(), none_BL, samples)
    at_once = max(1, token_budget // (max(map(len, contexts)) + length))
    groups, within = max(1, at_once // samples), min(samples, at_once)
    parts = [
        sample_cots(
            policy, contexts[g : g + groups], uniform_PGL[g : g + groups, i : i + within].reshape(-1, length), role
        )
        for g in range(0, len(contexts), groups)
        for i in range(0, samples, within)
    ]
    cot_BL = torch.cat([part.cot_BL for part in parts])
    return Rollouts(contexts, cot_BL, torch.cat([part.behaviour_logp_BL for part in parts]), samples)


@torch.no_grad()
def greedy_cots(policy: Policy, contexts: list[list[int]], length: int, role: Role) -> Tensor:
    """The most probable token at each position, [P, L], by the actor or the critic (the untrained base)."""
    with policy.acting_as(role):
        return decode(policy, contexts, length, lambda hidden_Bd, _: policy.cot_logits(hidden_Bd).argmax(-1))


@torch.no_grad()
def greedy_answers(
    policy: Policy, contexts: Sequence[Sequence[int]], role: Role, most: int = ANSWER_TOKENS["numeric"]
) -> list[str]:
    """The text each answer context is continued with, up to a newline, an EOS or `most` tokens."""
    texts = _greedy_texts(policy, contexts, role, most, policy.ends_answer_V)
    return [text.split("\n", 1)[0].strip() for text in texts]


@torch.no_grad()
def greedy_texts(
    policy: Policy, contexts: Sequence[Sequence[int]], role: Role, most: int, until: Sequence[str] = ()
) -> list[str]:
    """The text each context is continued with, up to an EOS, one of the texts `until`, or `most` tokens."""
    texts = _greedy_texts(policy, contexts, role, most, policy.ends_text_V, until)
    for stop in until:
        texts = [text.split(stop, 1)[0] for text in texts]
    return texts


def _greedy_texts(
    policy: Policy,
    contexts: Sequence[Sequence[int]],
    role: Role,
    most: int,
    ends_V: Tensor,
    until: Sequence[str] = (),
) -> list[str]:
    if not contexts:
        return []
    ended_B = torch.zeros(len(contexts), dtype=torch.bool, device=policy.device)
    written: list[Tensor] = []

    def pick(hidden_Bd: Tensor, position: int) -> Tensor:
        nonlocal ended_B
        token_B = policy.logits(hidden_Bd).argmax(-1).masked_fill(ended_B, policy.pad_id)
        ended_B = ended_B | ends_V[token_B]
        if until:
            written.append(token_B)
            # Now and then is enough: what is written behind it is cut off.
            if (position + 1) % LOOKED_FOR == 0:
                texts = policy.tokenizer.batch_decode(torch.stack(written, 1).tolist())
                ended_B = ended_B | torch.tensor([any(map(text.__contains__, until)) for text in texts]).to(ended_B)
        return token_B

    with policy.acting_as(role):
        ids_BL = decode(policy, contexts, most, pick, stop=lambda: bool(ended_B.all()))
    return [_before_eos(policy, row) for row in ids_BL.tolist()]


def _before_eos(policy: Policy, ids: list[int]) -> str:
    end = next((i for i, token in enumerate(ids) if token in policy.eos_ids), len(ids))
    text: str = policy.tokenizer.decode(ids[:end])
    return text
