"""Products with frozen weights, by the fastest exact kernel there is.

torch gives float32 products on x86 to MKL, which on AMD's processors reaches less than half of what oneDNN does (89
against 216 GFLOP/s on one core of an EPYC with AVX-512), so here they go to oneDNN, which torch carries too and uses
itself for bfloat16. A weight that is used often with few rows, as in decoding, is worth laying out for it once.
"""

from __future__ import annotations

import platform
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

HAS_ONEDNN = (
    platform.machine() in ("x86_64", "AMD64")
    and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    and hasattr(torch.ops.mkldnn, "_linear_pointwise")
)
PACKED_DTYPES = (torch.float32, torch.bfloat16)


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x W^T + bias: [..., in] -> [..., out]. Differentiable in x; the weight is frozen, and may be a packed one."""
    if weight.requires_grad:
        return F.linear(x, weight, bias)
    if weight.is_mkldnn:
        return _onednn(x, weight, bias)
    if not HAS_ONEDNN or x.dtype != torch.float32 or x.device.type != "cpu":
        return F.linear(x, weight, bias)
    if torch.is_grad_enabled() and x.requires_grad:
        # Flat, because what a custom function returns must not be a view: callers may write to it.
        out: Tensor = _Product.apply(x.flatten(0, -2), weight, bias)  # type: ignore[no-untyped-call]
        return out.view(*x.shape[:-1], -1)
    return _onednn(x, weight, bias)


def pack(weight: Tensor) -> Tensor:
    """The weight [out, in] laid out for many products without gradient; itself where that gains nothing."""
    weight = weight.detach()
    if not HAS_ONEDNN or weight.device.type != "cpu" or weight.dtype not in PACKED_DTYPES:
        return weight
    packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight)
    return packed


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(weight)
        return _onednn(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (weight,) = ctx.saved_tensors
        return product(gradients[0], weight.T), None, None


def _onednn(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    out: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return out
