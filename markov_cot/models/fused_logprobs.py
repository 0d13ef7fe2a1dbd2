"""Log-probability, KL divergence and entropy of each token from its logits, with their gradients worked out by hand.

Left to autograd, a dozen tensors of the vocabulary's size would be written and read again; here there are two, made a
few rows at a time, so that all that happens to a row happens in the processor's cache.

Shapes: N tokens, V vocabulary. Units: nats. With p = softmax(z) and q the reference,

    d log p_c / dz_v = [v = c] - p_v
    d KL      / dz_v = p_v (log p_v - log q_v - KL)
    d H       / dz_v = -p_v (log p_v + H)
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from markov_cot.algorithms.losses import entropy, full_kl

CACHED_NUMBERS = 1 << 19
"""Logits worked on at once on a CPU: 2 MiB in float32."""


class TokenScores(torch.autograd.Function):
    """(logits [N, V], reference log-probs [N, V], tokens [N]) -> log p_c, KL and H, [N] each.

    `logits` are tempered and at least float32, with `finfo.min` for banned tokens, and are overwritten: the caller
    must not use them again. Differentiable in them alone.
    """

    @staticmethod
    def forward(ctx: Any, logits_NV: Tensor, reference_logp_NV: Tensor, token_N: Tensor) -> tuple[Tensor, ...]:
        kl_N, entropy_N = (logits_NV.new_empty(len(token_N)) for _ in range(2))
        logp_NV = logits_NV.detach()
        for rows in _rows(logp_NV):
            logp_NV[rows] = logp_NV[rows].log_softmax(-1)
            kl_N[rows] = full_kl(logp_NV[rows], reference_logp_NV[rows])
            entropy_N[rows] = entropy(logp_NV[rows])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(logp_NV, reference_logp_NV, token_N, kl_N, entropy_N)
        return logp_NV.gather(1, token_N[:, None]).squeeze(1), kl_N, entropy_N

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor, None, None]:
        logp_NV, reference_logp_NV, token_N, kl_N, entropy_N = ctx.saved_tensors
        of_logp_N1, of_kl_N1, of_entropy_N1 = (
            None if gradient is None else gradient[:, None] for gradient in gradients
        )
        out_NV = torch.empty_like(logp_NV)
        for rows in _rows(logp_NV):
            logp, factor = logp_NV[rows], torch.zeros_like(logp_NV[rows])
            if of_kl_N1 is not None:
                torch.sub(logp, reference_logp_NV[rows], out=factor).sub_(kl_N[rows, None]).mul_(of_kl_N1[rows])
            if of_logp_N1 is not None:
                factor -= of_logp_N1[rows]
            p = torch.exp(logp, out=out_NV[rows])
            if of_entropy_N1 is None:
                p *= factor
            else:
                # First p, which makes a banned token's huge logarithm zero.
                surprise = (p * (logp + entropy_N[rows, None])).mul_(of_entropy_N1[rows])
                p.mul_(factor).sub_(surprise)
        if of_logp_N1 is not None:
            out_NV.scatter_add_(1, token_N[:, None], of_logp_N1)
        return out_NV, None, None


def _rows(values_NV: Tensor) -> Iterator[slice]:
    count, width = values_NV.shape
    at_once = max(1, CACHED_NUMBERS // width) if values_NV.device.type == "cpu" else count
    return (slice(i, i + at_once) for i in range(0, count, at_once))
