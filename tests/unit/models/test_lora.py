from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from peft.tuners.lora import Linear as PeftLinear
from torch import Tensor, nn

from markov_cot.models.lora import AdaptedLinear, MergedAdapter, use_adapted_linear


def adapted(dtype: torch.dtype = torch.float32, *, ours: bool = True) -> tuple[nn.Module, Any]:
    """A model of one layer from 6 to 5, with bias, and its adapter, all with fixed weights."""
    torch.manual_seed(0)
    config = LoraConfig(r=3, lora_alpha=6, target_modules=["0"], lora_dropout=0.0)
    if ours:
        use_adapted_linear(config)
    model = get_peft_model(nn.Sequential(nn.Linear(6, 5)).to(dtype), config)
    layer = next(m for m in model.modules() if isinstance(m, PeftLinear))
    generator = torch.Generator().manual_seed(1)
    for parameter in (layer.lora_A["default"].weight, layer.lora_B["default"].weight):
        wide = dtype if dtype == torch.float64 else torch.float32
        parameter.data = torch.randn(parameter.shape, generator=generator).to(wide)
    return model, layer


def outcome(model: nn.Module, layer: Any, x: Tensor) -> list[Tensor]:
    """Output, and gradients of input, A and B."""
    x = x.detach().requires_grad_()
    parameters = [layer.lora_A["default"].weight, layer.lora_B["default"].weight]
    out = model(x)
    weights = torch.arange(out.numel(), dtype=out.dtype).view(out.shape).cos()
    return [out, *torch.autograd.grad((out * weights).sum(), [x, *parameters])]


X = torch.randn(2, 4, 6, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


def test_it_takes_the_place_of_pefts_layer() -> None:
    (_, ours), (_, theirs) = adapted(), adapted(ours=False)
    assert type(ours) is AdaptedLinear and type(theirs) is PeftLinear
    assert ours.state_dict().keys() == theirs.state_dict().keys()


@pytest.mark.parametrize("folded", [False, True])
def test_it_computes_what_pefts_layer_computes(folded: bool) -> None:
    model, layer = adapted(torch.float64)
    expected = outcome(*adapted(torch.float64, ours=False), X)
    folding = MergedAdapter(model)
    if folded:
        with folding.folded():
            assert layer.folded is not None
            found = outcome(model, layer, X)
    else:
        found = outcome(model, layer, X)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


def test_by_hand() -> None:
    model, layer = adapted()
    layer.base_layer.weight.data = torch.zeros(5, 6)
    layer.base_layer.bias.data = torch.zeros(5)
    layer.lora_A["default"].weight.data = torch.ones(3, 6)
    layer.lora_B["default"].weight.data = torch.full((5, 3), 0.5)
    # A x = 6 in each of three places; B A x = 3 * 0.5 * 6 = 9; times alpha / r = 6 / 3.
    with torch.no_grad():
        assert model(torch.ones(1, 6)).tolist() == [[18.0] * 5]
        with MergedAdapter(model).folded():
            assert model(torch.ones(1, 6)).tolist() == [[18.0] * 5]


def test_folding_leaves_the_base_as_it_was_and_follows_the_adapter() -> None:
    model, layer = adapted()
    before = layer.base_layer.weight.clone()
    folding = MergedAdapter(model)
    with torch.no_grad():
        with folding.folded(), folding.folded():
            first = model(X.float())
        assert layer.folded is None and torch.equal(layer.base_layer.weight, before)
        layer.lora_B["default"].weight.mul_(2)
        with folding.folded():
            second = model(X.float())
    assert not torch.allclose(first, second)


def test_a_graph_outlives_the_folding_it_was_made_in() -> None:
    model, layer = adapted()
    folding = MergedAdapter(model)
    with folding.folded():
        out = model(X.float()).sum()
    with folding.folded():
        out.backward()
    assert layer.lora_A["default"].weight.grad.any()


def test_switched_off_it_is_the_base() -> None:
    model, layer = adapted()
    with torch.no_grad(), model.disable_adapter(), MergedAdapter(model).folded():  # type: ignore[operator]
        torch.testing.assert_close(model(X.float()), layer.base_layer(X.float()), rtol=0, atol=1e-6)


def test_a_bfloat16_base_is_not_folded_and_keeps_its_dtype() -> None:
    model, layer = adapted(torch.bfloat16)
    exact = copy.deepcopy(model).double()
    with torch.no_grad(), MergedAdapter(model).folded():
        assert layer.folded is None and layer.lora_A["default"].weight.dtype == torch.float32
        out = model(X.bfloat16())
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.double(), exact(X.bfloat16().double()), rtol=2e-2, atol=2e-2)
