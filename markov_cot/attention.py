"""Attention of tokens decoded by groups that share their prompt, without a copy of the prompt for each of them.

Registered with transformers under a name of its own; all other attention is passed on to torch's, as before.

Shapes: P prompts, G sequences of each, B = P*G (prompt-major), H key-value heads, R query heads per key-value head,
T tokens of the padded prompts, t tokens of the sequences' own, D head size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "markov_cot_groups"
REPLACES = "sdpa"


@dataclass(frozen=True, slots=True)
class Grouped:
    """Keys, or values, of B sequences, in at least float32: attention rounds to the query's dtype once, at the end."""

    prompt: Tensor
    """[P, H, T, D]"""
    own: Tensor
    """[B, H, t, D]"""


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor | Grouped,
    value: Tensor | Grouped,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """transformers' attention function: query [B, H*R, q, D] -> [B, q, H*R, D]."""
    if isinstance(key, Grouped) and isinstance(value, Grouped):
        return attend_in_groups(query, key, value, attention_mask, scaling), None
    out: tuple[Tensor, None] = sdpa_attention_forward(
        module, query, key, value, attention_mask, scaling=scaling, **options
    )
    return out


def attend_in_groups(
    query: Tensor, key: Grouped, value: Grouped, mask: Tensor | None, scaling: float | None = None
) -> Tensor:
    """softmax(q k^T scaling) v of one query token per sequence, [B, 1, H*R, D]. The mask is True where one may look."""
    prompts, heads, length, size = key.prompt.shape
    batch, group = len(query), len(query) // prompts
    query_BHRD = query.reshape(batch, heads, -1, size).to(key.prompt.dtype) * (
        size**-0.5 if scaling is None else scaling
    )
    of_prompt = _by_prompt(query_BHRD, prompts) @ key.prompt.mT
    scores = torch.cat([_by_sequence(of_prompt, group), query_BHRD @ key.own.mT], -1)
    if mask is not None:
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    weights = (scores - scores.amax(-1, keepdim=True)).exp_()
    total = weights.sum(-1, keepdim=True)
    # torch's kernel rounds what it weighs the values with, so scoring does; sampling must do alike to agree with it.
    weights = weights.to(query.dtype).to(scores.dtype)
    seen = _by_sequence(_by_prompt(weights[..., :length], prompts) @ value.prompt, group)
    seen = (seen + weights[..., length:] @ value.own) / total
    return seen.reshape(batch, 1, -1, seen.shape[-1]).to(query.dtype)


def _by_prompt(x: Tensor, prompts: int) -> Tensor:
    """[B, H, R, X] -> [P, H, G*R, X]: all that looks at one prompt in one product."""
    batch, heads, repeats, size = x.shape
    grouped = x.view(prompts, batch // prompts, heads, repeats, size).transpose(1, 2)
    return grouped.reshape(prompts, heads, -1, size)


def _by_sequence(x: Tensor, group: int) -> Tensor:
    """[P, H, G*R, X] -> [B, H, R, X]."""
    prompts, heads, rows, size = x.shape
    apart = x.view(prompts, heads, group, rows // group, size).transpose(1, 2)
    return apart.reshape(prompts * group, heads, rows // group, size)


AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, sdpa_mask)
