"""LoRA over linear layers in fewer products than PEFT's own, with the same parameters and files.

Sampling calls every layer once per token, where each small product of the adapter costs as much as a large one of the
base. So while it lasts, `folded` gives each layer a second weight with the adapter in it, W + s B A; the base's own
weights are never written to (PEFT's merge changes them, and its unmerge does not restore them exactly). Folding rounds
the sum to the base's dtype, so it is for float32 and float64; a bfloat16 base has its adapter added to each output.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

import torch
from peft import LoraConfig
from peft.tuners.lora import Linear as LoraLinear
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel

from markov_cot.models.linear import product

logger = logging.getLogger(__name__)

FOLDED_DTYPES = (torch.float32, torch.float64)
MAMBA = ("mamba", "mamba2", "falcon_mamba", "falcon_h1", "nemotron_h")
REFUSED_IN_MAMBA = ("out_proj", "conv1d")
"""Layers whose weights these families' kernels read behind an adapter's back. PEFT 0.21 raises at them even where
"all-linear" named them; this can go when it leaves them out itself."""
COPY_LIMIT_BYTES = 4 << 30
"""Most memory for a copy of weights; fixed, so that a resumed run computes as the interrupted one did."""


class AdaptedLinear(LoraLinear):  # type: ignore[misc]
    """PEFT's LoRA layer over `nn.Linear`, for one adapter without dropout, bias or variants."""

    folded: Tensor | None = None
    """W + s B A while the adapter is folded."""
    plain: bool = False
    """Whether PEFT's own forward is used instead, which calls the base's layer as it is."""

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """[..., in] -> [..., out] in the base's dtype."""
        if self.plain:
            by_peft: Tensor = super().forward(x, *args, **kwargs)
            return by_peft
        weight, bias = self.base_layer.weight, self.base_layer.bias
        if self.disable_adapters:
            return product(x, weight, bias)
        a, b, scaling = self.adapter()
        if self.folded is not None:
            if not torch.is_grad_enabled():
                return product(x, self.folded, bias)
            # Flat, because what a custom function returns must not be a view: Falcon adds to it in place.
            flat: Tensor = _FoldedLinear.apply(x.flatten(0, -2), a, b, self.folded, bias, scaling)  # type: ignore[no-untyped-call]
            return flat.view(*x.shape[:-1], -1)
        out = product(x, weight, bias)
        low = x.to(a.dtype) @ a.T
        if out.dtype == b.dtype:
            return torch.addmm(out.flatten(0, -2), low.flatten(0, -2), b.T, alpha=scaling).view(out.shape)
        return out + (low @ b.T).mul_(scaling).to(out.dtype)

    def fold(self) -> None:
        """Computes W + s B A and uses it until `unfold`. The memory is new: a backward may still need the last."""
        a, b, scaling = self.adapter()
        with torch.no_grad():
            self.folded = torch.addmm(self.base_layer.weight, b, a, alpha=scaling)

    def unfold(self) -> None:
        """Back to base and adapter apart."""
        self.folded = None

    @property
    def layers(self) -> Sequence[nn.Module]:
        """Itself, as a `Foldable`."""
        return (self,)

    def adapter(self) -> tuple[Tensor, Tensor, float]:
        """A [rank, in], B [out, rank] and s."""
        name = self.active_adapter[0]
        return self.lora_A[name].weight, self.lora_B[name].weight, self.scaling[name]


class _FoldedLinear(torch.autograd.Function):
    """x (W + s B A)^T + bias of rows x [N, in], with the gradients of x, A and B from the folded weight."""

    @staticmethod
    def forward(
        ctx: Any, x_N: Tensor, a: Tensor, b: Tensor, folded: Tensor, bias: Tensor | None, scaling: float
    ) -> Tensor:
        ctx.save_for_backward(x_N, a, b, folded)
        ctx.scaling = scaling
        return product(x_N, folded, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x_N, a, b, folded = ctx.saved_tensors
        (gradient_N,) = gradients
        gradient_x = product(gradient_N, folded.T) if ctx.needs_input_grad[0] else None
        _, gradient_a, gradient_b = adapter_gradients(x_N, gradient_N, a.detach(), ctx.scaling * b.detach())
        return gradient_x, gradient_a, gradient_b * ctx.scaling, None, None, None


def adapter_gradients(x_N: Tensor, gradient_N: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of x low^T, of `low` and of `high` in y = x low^T high^T, from x [N, in] and that of y [N, out]."""
    low_N = product(x_N, low)
    low_gradient_N = product(gradient_N, high.T.contiguous())
    # The rank comes first in both, since a product with few rows is much faster than one with few columns.
    of_low = product(low_gradient_N.T.contiguous(), x_N.T)
    of_high = product(low_N.T.contiguous(), gradient_N.T).T
    return low_gradient_N, of_low, of_high


def affords_copy(weights: Iterable[Tensor]) -> bool:
    """Whether there is room for a second copy of some weights."""
    return sum(w.numel() * w.element_size() for w in weights) <= COPY_LIMIT_BYTES


class _Plain(type):
    """Counts as its instances the layers that compute what `nn.Linear` computes: x W^T + bias and nothing else.

    Quantised layers, BitNet's and routers are `nn.Linear`s by inheritance and have a forward of their own.
    """

    def __instancecheck__(cls, layer: Any) -> bool:
        return type(layer) is nn.Linear and "forward" not in vars(layer)


class _PlainLinear(metaclass=_Plain):
    """Stands for such layers where PEFT asks for a class."""


def is_plain_linear(layer: Any) -> bool:
    """Whether a layer computes what `nn.Linear` computes, and nothing else."""
    return isinstance(layer, _PlainLinear)


def use_adapted_linear(config: LoraConfig) -> None:
    """Has PEFT put `AdaptedLinear` in the place of its own layer over plain ones. The saved adapter is the same."""
    config._register_custom_module({_PlainLinear: AdaptedLinear})


def leave_out_unfit(config: LoraConfig, base: PreTrainedModel) -> None:
    """Has PEFT leave out layers that an adapter cannot be put on, and says which.

    Those do not map inputs to outputs, as routers that return choices beside scores, or PEFT refuses them by name.
    """
    unfit = [name for name, module in base.named_modules() if _maps_otherwise(module)]
    if config.target_modules == "all-linear" and getattr(base.config, "model_type", None) in MAMBA:
        unfit += [name for name, _ in base.named_modules() if name.rpartition(".")[2] in REFUSED_IN_MAMBA]
    if unfit:
        config.exclude_modules = unfit
        logger.warning("no adapter on %d layers that none can be put on (%s)", len(unfit), unfit[0])


@torch.no_grad()
def _maps_otherwise(layer: nn.Module) -> bool:
    """Whether it is a linear layer by inheritance to whose output an adapter's cannot be added."""
    if not isinstance(layer, nn.Linear) or isinstance(layer, _PlainLinear):
        return False
    weight = layer.weight
    if weight.is_meta or weight.dtype not in (torch.bfloat16, torch.float16, *FOLDED_DTYPES):
        return False  # quantised: PEFT knows those
    try:
        out = layer(weight.new_zeros(1, layer.in_features))
    except (RuntimeError, TypeError, ValueError):
        return True
    return not isinstance(out, Tensor) or out.shape != (1, layer.out_features)


class Foldable(Protocol):
    """One adapted layer, or several whose weights are one."""

    folded: Tensor | None
    """W + s B A while it is in use."""

    @property
    def layers(self) -> Sequence[nn.Module]:
        """The layers."""

    def fold(self) -> None:
        """Computes W + s B A and uses it until `unfold`."""

    def unfold(self) -> None:
        """Back to base and adapter apart."""


class MergedAdapter:
    """Switches all adapted layers of a model to folded weights and back, or to PEFT's own arithmetic."""

    def __init__(self, model: nn.Module, joined: Sequence[Foldable] = ()) -> None:
        """Layers that are part of a `joined` one are folded with it."""
        layers = [m for m in model.modules() if isinstance(m, AdaptedLinear)]
        self._adapted = layers
        weights = [layer.base_layer.weight for layer in layers]
        in_parts = any(isinstance(w, DTensor) for w in weights)  # sharded: whole only within a layer's forward
        foldable = not in_parts and affords_copy(weights) and all(w.dtype in FOLDED_DTYPES for w in weights)
        within = {id(layer) for each in joined for layer in each.layers}
        self._units: list[Foldable] = []
        if foldable and layers:
            self._units = [*joined, *(layer for layer in layers if id(layer) not in within)]
        self._depth = 0

    @property
    def folds(self) -> bool:
        """Whether there is anything to fold."""
        return bool(self._units)

    @property
    def is_left_to_peft(self) -> bool:
        """Whether layers compute what PEFT's own do."""
        return any(layer.plain for layer in self._adapted)

    @contextlib.contextmanager
    def folded(self) -> Iterator[None]:
        """Within it, layers use W + s B A of the parameters it was entered with. May be nested."""
        self._depth += 1
        try:
            if self._depth == 1:
                for unit in self._units:
                    unit.fold()
            yield
        finally:
            self._depth -= 1
            if not self._depth:
                for unit in self._units:
                    unit.unfold()

    @contextlib.contextmanager
    def apart(self) -> Iterator[None]:
        """Within it, layers compute with base and adapter apart, whatever is folded outside."""
        before = [unit.folded for unit in self._units]
        self._depth += 1  # so that nothing is folded within
        for unit in self._units:
            unit.unfold()
        try:
            yield
        finally:
            self._depth -= 1
            for unit, folded in zip(self._units, before, strict=True):
                unit.folded = folded

    @contextlib.contextmanager
    def by_peft(self) -> Iterator[None]:
        """Within it, layers compute what PEFT's and the base's own modules do."""
        before = [layer.plain for layer in self._adapted]
        for layer in self._adapted:
            layer.plain = True
        try:
            yield
        finally:
            for layer, plain in zip(self._adapted, before, strict=True):
                layer.plain = plain

    def leave_to_peft(self) -> None:
        """As `by_peft`, from now on."""
        for layer in self._adapted:
            layer.plain = True
