from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from markov_cot.products import pack, product


def tensors(dtype: torch.dtype, shape: tuple[int, ...]) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randn(s, generator=generator).to(dtype) for s in (shape, (5, shape[-1]), (5,)))


@pytest.mark.parametrize("shape", [(7, 6), (2, 3, 6), (1, 1, 6)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("biased", [True, False])
def test_it_is_torchs_linear(dtype: torch.dtype, shape: tuple[int, ...], biased: bool) -> None:
    x, weight, bias = tensors(dtype, shape)
    bias_or_none = bias if biased else None
    exact = F.linear(x.double(), weight.double(), bias.double() if biased else None)
    tolerance = {torch.float32: 1e-6, torch.float64: 1e-14, torch.bfloat16: 2e-2}[dtype]
    for found in (product(x, weight, bias_or_none), product(x, pack(weight), bias_or_none)):
        assert found.dtype == dtype and found.shape == exact.shape
        torch.testing.assert_close(found.double(), exact, rtol=tolerance, atol=tolerance)


def test_its_gradient_is_torchs() -> None:
    x, weight, bias = tensors(torch.float32, (2, 3, 6))
    gradients = []
    for function in (product, F.linear):
        leaf = x.clone().requires_grad_()
        (function(leaf, weight, bias) * torch.arange(30).view(2, 3, 5).cos()).sum().backward()
        gradients.append(leaf.grad)
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-6, atol=1e-6)


def test_a_view_that_is_not_contiguous() -> None:
    x, weight, _ = tensors(torch.float32, (4, 3, 6))
    torch.testing.assert_close(product(x.transpose(0, 1), weight), F.linear(x.transpose(0, 1), weight))
    torch.testing.assert_close(product(x[:, -1], weight), F.linear(x[:, -1], weight))


def test_a_weight_that_is_trained_gets_its_gradient() -> None:
    x, weight, _ = tensors(torch.float32, (4, 6))
    weight.requires_grad_()
    product(x, weight).sum().backward()
    assert weight.grad is not None and weight.grad.any()
