"""Products with frozen weights, by the fastest exact kernel there is.

A product of bfloat16 numbers is added up in float32 everywhere and then rounded to bfloat16, which at a logit of 23 is
an error of up to 0.06. `wide_product` leaves the rounding out, for the output layer. On a CPU torch has no such kernel,
but oneDNN multiplies float32 numbers as if they were bfloat16 ones when it is allowed to, and of numbers that are
bfloat16 ones that is the exact product, at the speed of bfloat16.

torch gives float32 products on x86 to MKL, which on AMD's processors reaches less than half of what oneDNN does (89
against 216 GFLOP/s on one core of an EPYC with AVX-512), so there they go to oneDNN, which torch carries too and uses
itself for bfloat16. On Intel's, MKL is the faster one: on two cores of a Xeon with AMX by 10 to 20 % with 1,200 rows,
and by 4 to 80 % with 48. A weight that is used often with few rows, as in decoding, is laid out for oneDNN once on
either.
"""

from __future__ import annotations

import contextlib
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

HAS_ONEDNN = (
    platform.machine() in ("x86_64", "AMD64")
    and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    and hasattr(torch.ops.mkldnn, "_linear_pointwise")
)
HAS_BFLOAT16 = HAS_ONEDNN and torch.ops.mkldnn._is_mkldnn_bf16_supported()
"""Whether oneDNN takes bfloat16 weights here, which needs AVX-512. Without it a product of them takes about four
times as long as in float32."""
CPU_INFO = Path("/proc/cpuinfo")
PACKED_DTYPES = (torch.float32, torch.bfloat16) if HAS_BFLOAT16 else (torch.float32,)
NARROW_DTYPES = (torch.bfloat16, torch.float16)
BLOCK_NUMBERS = 1 << 20
"""Weights that are made float32 at once: 4 MiB, so that they stay in the processor's cache."""
WIDE_COPY_BYTES = 1 << 30
"""Most memory for a float32 copy of a weight; fixed, so that a resumed run computes as the interrupted one did."""


def _is_intel() -> bool:
    """Whether the processor is one of Intel's, as far as the system says."""
    try:
        said = CPU_INFO.read_text(encoding="utf-8")
    except OSError:  # other systems than Linux
        said = platform.processor()
    return "GenuineIntel" in said


PREFERS_ONEDNN = HAS_ONEDNN and not _is_intel()
"""For float32 weights that are not laid out."""


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x W^T + bias: [..., in] -> [..., out]. Differentiable in x; the weight is frozen, and may be a packed one."""
    if weight.requires_grad:
        return F.linear(x, weight, bias)
    if weight.is_mkldnn:
        return _onednn(x, weight, bias)
    if not PREFERS_ONEDNN or x.dtype != torch.float32 or x.device.type != "cpu":
        return F.linear(x, weight, bias)
    if torch.is_grad_enabled() and x.requires_grad:
        # Flat, because what a custom function returns must not be a view: callers may write to it.
        out: Tensor = _Product.apply(x.flatten(0, -2), weight, bias)  # type: ignore[no-untyped-call]
        return out.view(*x.shape[:-1], -1)
    return _onednn(x, weight, bias)


def wide_product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`product` in at least float32: what 16-bit numbers add up to in float32, without rounding to 16 bits.

    The weight may be one of `pack_wide`. The gradient of x has the dtype of x.
    """
    if x.dtype not in NARROW_DTYPES:
        return product(x, weight, bias)
    if weight.requires_grad:
        return F.linear(x.float(), weight.float(), None if bias is None else bias.float())
    if weight.is_mkldnn:
        with exact_products(x.dtype):
            out = _onednn(x.float(), weight, None)
    else:
        flat: Tensor = _WideProduct.apply(x.reshape(-1, x.shape[-1]), weight)  # type: ignore[no-untyped-call]
        out = flat.view(*x.shape[:-1], -1)
    return out if bias is None else out + bias


def pack_wide(weight: Tensor) -> Tensor:
    """The weight laid out for many calls of `wide_product` without gradient; itself where that gains nothing.

    Of a 16-bit weight that is a float32 copy, unless it would be too large.
    """
    if weight.dtype not in NARROW_DTYPES:
        return pack(weight)
    if not HAS_ONEDNN or weight.device.type != "cpu" or 4 * weight.numel() > WIDE_COPY_BYTES:
        return weight.detach()
    return pack(weight.detach().float())


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


class _WideProduct(torch.autograd.Function):
    """(x [N, in], weight [out, in]), both 16-bit -> x W^T [N, out] in float32."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(weight)
        if x.device.type == "cuda":
            return torch.mm(x, weight.T, out_dtype=torch.float32)
        wide = x.float()
        out = wide.new_empty(len(x), len(weight))
        rows = max(1, BLOCK_NUMBERS // weight.shape[1])
        buffer = wide.new_empty(min(rows, len(weight)), weight.shape[1])
        with exact_products(x.dtype):
            for start in range(0, len(weight), rows):
                narrow = weight[start : start + rows]
                block = buffer[: len(narrow)].copy_(narrow)
                torch.mm(wide, block.T, out=out[:, start : start + rows])
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (weight,) = ctx.saved_tensors
        return product(gradients[0].to(weight.dtype), weight.T), None


@contextlib.contextmanager
def exact_products(dtype: torch.dtype) -> Iterator[None]:
    """Within it, oneDNN multiplies float32 numbers that hold bfloat16 ones as what they are; others as ever."""
    if dtype != torch.bfloat16 or not HAS_ONEDNN:
        yield
        return
    settings = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    before = settings.fp32_precision
    settings.fp32_precision = "bf16"
    try:
        yield
    finally:
        settings.fp32_precision = before


def _onednn(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    out: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return out
