"""Attention of many tokens of each sequence to a prompt that sequences share and to those before them, by hand.

Query heads that share keys are in one product, and what is cheap is computed again in the backward instead of kept.

Shapes: B sequences, T tokens of each that look, S that are looked at, of which the last T are the same; H query heads,
K key-value heads, R = H / K, D head size.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from markov_cot.models.linear import exact_products

MASKED = -1e30
"""Added to a score instead of -inf: padding that sees nothing must not become NaN."""
SCORES_BYTES = 32 << 20
"""Most memory for one tensor of scores; about three of that size exist at once."""


@dataclass(frozen=True, slots=True)
class Masks:
    """What may not be looked at. Both are added to scores."""

    later_TT: Tensor
    """Of a sequence's own tokens, those that come later."""
    padding_BS: Tensor | None

    def add_to(self, scores_BKRTS: Tensor, rows: slice) -> None:
        """Masks the scores of some of the sequences in place."""
        length = len(self.later_TT)
        if length > 1:
            scores_BKRTS[..., -length:].add_(self.later_TT)
        if self.padding_BS is not None:
            scores_BKRTS.add_(self.padding_BS[rows, None, None, None])

    @staticmethod
    def of(padding_BS: Tensor, length: int, dtype: torch.dtype) -> Masks:
        """For T = `length` tokens; `padding_BS` is 1 for those that may be looked at and 0 for padding."""
        return Masks(torch.full((length, length), MASKED, dtype=dtype).triu(1), mask_of(padding_BS, dtype))


def mask_of(padding_BS: Tensor, dtype: torch.dtype) -> Tensor | None:
    """What is added to scores, where `padding_BS` is 0 for padding; None where there is none."""
    if padding_BS.all():
        return None
    return torch.zeros(padding_BS.shape, dtype=dtype).masked_fill_(padding_BS == 0, MASKED)


def attend(query_BTHD: Tensor, keys_BKSD: Tensor, values_BKSD: Tensor, masks: Masks, scaling: float) -> Tensor:
    """softmax(q k^T scaling + masks) v, [B, T, H, D] in the dtype of `query`; keys and values are in float32 or 64."""
    seen_BTHD = torch.empty_like(query_BTHD)
    for rows, queries, keys, values in _parts(query_BTHD, keys_BKSD, values_BKSD):
        with exact_products(query_BTHD.dtype):
            weights = _weights(queries, keys, masks, rows, scaling, keys_BKSD.shape[1])
            seen_BTHD[rows] = _by_token(weights @ values, query_BTHD[rows])
    return seen_BTHD


def attend_gradients(
    gradient_BTHD: Tensor,
    seen_BTHD: Tensor,
    query_BTHD: Tensor,
    keys_BKSD: Tensor,
    values_BKSD: Tensor,
    masks: Masks,
    scaling: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of queries, keys and values of `attend`, from that of what it returned."""
    of_query_BTHD = torch.empty_like(query_BTHD)
    of_keys_BKSD, of_values_BKSD = torch.empty_like(keys_BKSD), torch.empty_like(values_BKSD)
    heads = keys_BKSD.shape[1]
    for rows, queries, keys, values in _parts(query_BTHD, keys_BKSD, values_BKSD):
        gradient, seen = (_by_head(x[rows], heads, keys.dtype) for x in (gradient_BTHD, seen_BTHD))
        with exact_products(query_BTHD.dtype):
            weights = _weights(queries, keys, masks, rows, scaling, heads)
            torch.bmm(weights.mT, gradient, out=of_values_BKSD[rows].flatten(0, 1))
            of_scores = gradient @ values.mT
            of_scores.sub_((gradient * seen).sum(-1, keepdim=True)).mul_(weights).mul_(scaling)
            torch.bmm(of_scores.mT, queries, out=of_keys_BKSD[rows].flatten(0, 1))
            of_query_BTHD[rows] = _by_token(of_scores @ keys, query_BTHD[rows])
    return of_query_BTHD, of_keys_BKSD, of_values_BKSD


def _weights(queries: Tensor, keys: Tensor, masks: Masks, rows: slice, scaling: float, heads: int) -> Tensor:
    """[B*K, R*T, S]."""
    scores = (queries @ keys.mT).mul_(scaling)
    length = len(masks.later_TT)
    masks.add_to(scores.view(-1, heads, scores.shape[1] // length, length, keys.shape[1]), rows)
    return scores.softmax(-1)


def _parts(
    query_BTHD: Tensor, keys_BKSD: Tensor, values_BKSD: Tensor
) -> Iterator[tuple[slice, Tensor, Tensor, Tensor]]:
    """As many sequences at once as their scores may be: queries [B*K, R*T, D], keys and values [B*K, S, D]."""
    sequences, length, heads, _ = query_BTHD.shape
    of_one = heads * length * keys_BKSD.shape[2] * keys_BKSD.element_size()
    at_once = max(1, SCORES_BYTES // of_one)
    for start in range(0, sequences, at_once):
        rows = slice(start, start + at_once)
        queries = _by_head(query_BTHD[rows], keys_BKSD.shape[1], keys_BKSD.dtype)
        yield rows, queries, keys_BKSD[rows].flatten(0, 1), values_BKSD[rows].flatten(0, 1)


def _by_head(x_BTHD: Tensor, key_heads: int, dtype: torch.dtype) -> Tensor:
    """[B*K, R*T, D] in `dtype`: what looks at the same keys is in one product."""
    batch, length, heads, size = x_BTHD.shape
    grouped = x_BTHD.reshape(batch, length, key_heads, heads // key_heads, size).permute(0, 2, 3, 1, 4)
    by_head = torch.empty(grouped.shape, dtype=dtype)
    return by_head.copy_(grouped).view(batch * key_heads, -1, size)


def _by_token(x: Tensor, like_BTHD: Tensor) -> Tensor:
    """[B, T, H, D], a view: `_by_head` undone."""
    batch, length, heads, size = like_BTHD.shape
    return x.view(batch, heads, length, size).transpose(1, 2)
