from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from markov_cot.models import linear as products
from markov_cot.models.linear import pack, pack_wide, product, wide_product


@pytest.fixture(params=[True, False], ids=["oneDNN", "MKL"])
def _library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever of the two the processor prefers."""
    monkeypatch.setattr(products, "PREFERS_ONEDNN", products.HAS_ONEDNN and request.param)


@pytest.mark.parametrize(
    ("said", "is_intel"), [("vendor_id\t: GenuineIntel", True), ("vendor_id\t: AuthenticAMD", False)]
)
def test_the_processors_maker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, is_intel: bool) -> None:
    file = tmp_path / "cpuinfo"
    monkeypatch.setattr(products, "CPU_INFO", file)
    monkeypatch.setattr("platform.processor", lambda: said)
    assert products._is_intel() == is_intel, "where there is no such file"
    monkeypatch.setattr("platform.processor", lambda: "")
    file.write_text(f"processor\t: 0\n{said}\n")
    assert products._is_intel() == is_intel


def tensors(dtype: torch.dtype, shape: tuple[int, ...]) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randn(s, generator=generator).to(dtype) for s in (shape, (5, shape[-1]), (5,)))


@pytest.mark.parametrize("shape", [(7, 6), (2, 3, 6), (1, 1, 6)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.usefixtures("_library")
def test_it_is_torchs_linear(dtype: torch.dtype, shape: tuple[int, ...], biased: bool) -> None:
    x, weight, bias = tensors(dtype, shape)
    bias_or_none = bias if biased else None
    exact = F.linear(x.double(), weight.double(), bias.double() if biased else None)
    tolerance = {torch.float32: 1e-6, torch.float64: 1e-14, torch.bfloat16: 2e-2}[dtype]
    for found in (product(x, weight, bias_or_none), product(x, pack(weight), bias_or_none)):
        assert found.dtype == dtype and found.shape == exact.shape
        torch.testing.assert_close(found.double(), exact, rtol=tolerance, atol=tolerance)


@pytest.mark.usefixtures("_library")
def test_its_gradient_is_torchs() -> None:
    x, weight, bias = tensors(torch.float32, (2, 3, 6))
    gradients = []
    for function in (product, F.linear):
        leaf = x.clone().requires_grad_()
        (function(leaf, weight, bias) * torch.arange(30).view(2, 3, 5).cos()).sum().backward()
        gradients.append(leaf.grad)
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-6, atol=1e-6)


@pytest.mark.usefixtures("_library")
def test_a_view_that_is_not_contiguous() -> None:
    x, weight, _ = tensors(torch.float32, (4, 3, 6))
    torch.testing.assert_close(product(x.transpose(0, 1), weight), F.linear(x.transpose(0, 1), weight))
    torch.testing.assert_close(product(x[:, -1], weight), F.linear(x[:, -1], weight))


@pytest.mark.usefixtures("_library")
def test_a_weight_that_is_trained_gets_its_gradient() -> None:
    x, weight, _ = tensors(torch.float32, (4, 6))
    weight.requires_grad_()
    product(x, weight).sum().backward()
    assert weight.grad is not None and weight.grad.any()


# --- of 16-bit numbers, in float32


@pytest.mark.parametrize("block", [7, 1 << 20])
@pytest.mark.parametrize("shape", [(7, 6), (2, 3, 6), (6,)])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("biased", [True, False])
def test_a_wide_product_is_not_rounded_to_16_bits(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, shape: tuple[int, ...], biased: bool, block: int
) -> None:
    monkeypatch.setattr(products, "BLOCK_NUMBERS", block)
    x, weight, bias = tensors(dtype, shape)
    x = x * 20
    bias_or_none = bias if biased else None
    exact = F.linear(x.double(), weight.double(), bias.double() if biased else None)
    for found in (wide_product(x, weight, bias_or_none), wide_product(x, pack_wide(weight), bias_or_none)):
        assert found.dtype == torch.promote_types(dtype, torch.float32) and found.shape == exact.shape
        torch.testing.assert_close(found.double(), exact, rtol=1e-6, atol=2e-5)


@pytest.mark.parametrize("trained", [False, True])
def test_a_wide_products_gradient(trained: bool) -> None:
    x, weight, bias = tensors(torch.bfloat16, (2, 3, 6))
    leaf, exact = x.clone().requires_grad_(), x.double().requires_grad_()
    weight.requires_grad_(trained)
    factors = torch.arange(30).view(2, 3, 5).cos()
    (wide_product(leaf, weight, bias) * factors).sum().backward()
    (F.linear(exact, weight.detach().double()) * factors).sum().backward()
    assert leaf.grad is not None and leaf.grad.dtype == torch.bfloat16 and exact.grad is not None
    torch.testing.assert_close(leaf.grad.double(), exact.grad, rtol=2e-2, atol=2e-2)
    assert not trained or (weight.grad is not None and weight.grad.any())


def test_float32_products_are_as_ever_afterwards() -> None:
    x, weight, _ = tensors(torch.float32, (64, 96))
    before, precision = x @ weight.T, torch.get_float32_matmul_precision()
    with pytest.raises(RuntimeError):  # shapes that do not fit
        wide_product(x.bfloat16()[:, :5], weight.bfloat16())
    wide_product(x.bfloat16(), weight.bfloat16())
    assert torch.equal(x @ weight.T, before) and torch.get_float32_matmul_precision() == precision


def test_a_weight_too_large_to_copy_is_not_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    _, weight, _ = tensors(torch.bfloat16, (4, 6))
    monkeypatch.setattr(products, "WIDE_COPY_BYTES", 4 * weight.numel() - 1)
    assert pack_wide(weight) is not None and pack_wide(weight).dtype == torch.bfloat16
