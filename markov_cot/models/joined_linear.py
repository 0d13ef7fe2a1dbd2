"""Linear layers with one input as one product, adapters included.

The frozen weights of such layers (query, key and value; gate and up) stand side by side in one piece of memory, of
which the layers' own weights are views. So the one product costs no copy, and the layers can still be called by
themselves.

Shapes: N tokens, R the adapters' ranks summed up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from markov_cot.models.linear import NARROW_DTYPES, pack, product
from markov_cot.models.lora import AdaptedLinear, adapter_gradients

Layer = nn.Linear | AdaptedLinear


@dataclass(frozen=True, slots=True)
class Adapters:
    """Those of several layers with one input as one: y += x low^T high^T."""

    low: Tensor
    """A of each, one below the other [R, in]."""
    high: Tensor
    """s B of each, on the diagonal of [out, R]."""
    places: Sequence[tuple[slice, slice, float]]
    """Of each: its outputs, its ranks, and s."""

    def split(self, low_gradient: Tensor, high_gradient: Tensor) -> list[Tensor]:
        """The gradients of A and B of each, in turn, from those of `low` and `high`."""
        found: list[Tensor] = []
        for outputs, ranks, scaling in self.places:
            found += [low_gradient[ranks], high_gradient[outputs, ranks] * scaling]
        return found


@dataclass(frozen=True, slots=True)
class LinearInUse:
    """The map that joined layers compute at some moment."""

    weight: Tensor
    """[out, in], with the adapters in it if `is_folded`."""
    bias: Tensor | None
    adapters: Adapters | None
    is_folded: bool

    def __call__(self, x_N: Tensor) -> Tensor:
        """[N, in] -> [N, out]."""
        out = product(x_N, self.weight, self.bias)
        if self.adapters is None or self.is_folded:
            return out
        low = x_N.to(self.adapters.low.dtype) @ self.adapters.low.T
        return torch.addmm(out, low.to(out.dtype), self.adapters.high.T.to(out.dtype))

    def gradients(self, x_N: Tensor, gradient_N: Tensor, *, of_x: bool = True) -> tuple[Tensor | None, list[Tensor]]:
        """The gradients of x, if it is wanted, and of A and B of each adapter in turn, from that of the output."""
        gradient_x = product(gradient_N, self.weight.T) if of_x else None
        if self.adapters is None:
            return gradient_x, []
        low, high = self.adapters.low, self.adapters.high
        wide_N, wide_gradient_N = x_N.to(low.dtype), gradient_N.to(low.dtype)
        low_gradient_N, of_low, of_high = adapter_gradients(wide_N, wide_gradient_N, low, high)
        if gradient_x is not None and not self.is_folded:
            gradient_x = torch.addmm(gradient_x, low_gradient_N.to(gradient_x.dtype), low.to(gradient_x.dtype))
        return gradient_x, self.adapters.split(of_low, of_high)


class JoinedLinear:
    """Layers with one input, in the order of their outputs."""

    def __init__(self, layers: Sequence[Layer]) -> None:
        """Moves the layers' weights to where they stand side by side."""
        self.layers = layers
        bases = [_base(layer) for layer in layers]
        ends = torch.tensor([base.out_features for base in bases]).cumsum(0).tolist()
        self._outputs = [slice(end - base.out_features, end) for base, end in zip(bases, ends, strict=True)]
        self._weight = bases[0].weight.detach()
        if len(bases) > 1:
            self._weight = torch.cat([base.weight.detach() for base in bases])
            for base, outputs in zip(bases, self._outputs, strict=True):
                base.weight.data = self._weight[outputs]
        self._bias = None if bases[0].bias is None else torch.cat([base.bias.detach() for base in bases])
        self._folded: Tensor | None = None
        self._packed: Tensor | None = None

    def parameters(self) -> list[Tensor]:
        """A and B of each adapter at work, in turn."""
        return [parameter for _, layer in self._adapted() for parameter in layer.adapter()[:2]]

    def in_use(self) -> LinearInUse:
        """What the layers compute now."""
        adapters = self._adapters()
        is_folded = adapters is not None and self._folded is not None
        weight = self._folded if is_folded and self._folded is not None else self._weight
        return LinearInUse(weight, self._bias, adapters, is_folded)

    def packed(self) -> Tensor:
        """The weight in use, laid out for many products with few rows.

        A 16-bit base's, into which no adapter is folded, is kept from one time to the next.
        """
        if self._packed is not None:
            return self._packed
        weight = self.in_use().weight
        packed = pack(weight)
        if weight.dtype in NARROW_DTYPES:
            self._packed = packed
        return packed

    def release(self) -> None:
        """Frees what is kept."""
        self._packed = None

    @property
    def folded(self) -> Tensor | None:
        """W + s B A of all layers while it is in use; its parts are in use by the layers themselves."""
        return self._folded

    @folded.setter
    def folded(self, weight: Tensor | None) -> None:
        self._folded = weight
        for outputs, layer in zip(self._outputs, self.layers, strict=True):
            if isinstance(layer, AdaptedLinear):
                layer.folded = None if weight is None else weight[outputs]

    @torch.no_grad()
    def fold(self) -> None:
        """Computes W + s B A and has the layers use it until `unfold`, in memory that a backward may keep."""
        if adapters := self._adapters():
            self.folded = torch.addmm(self._weight, adapters.high, adapters.low)

    def unfold(self) -> None:
        """Back to base and adapter apart."""
        self.folded = None

    def _adapted(self) -> list[tuple[slice, AdaptedLinear]]:
        pairs = zip(self._outputs, self.layers, strict=True)
        return [(outputs, x) for outputs, x in pairs if isinstance(x, AdaptedLinear) and not x.disable_adapters]

    @torch.no_grad()
    def _adapters(self) -> Adapters | None:
        adapted = self._adapted()
        if not adapted:
            return None
        lows = [layer.adapter()[0] for _, layer in adapted]
        low = torch.cat(lows) if len(lows) > 1 else lows[0].detach()
        high, places, start = low.new_zeros(len(self._weight), len(low)), [], 0
        for outputs, layer in adapted:
            a, b, scaling = layer.adapter()
            ranks = slice(start, start + len(a))
            torch.mul(b, scaling, out=high[outputs, ranks])
            places.append((outputs, ranks, scaling))
            start = ranks.stop
        return Adapters(low, high, places)


def _base(layer: Layer) -> nn.Linear:
    base: nn.Linear = layer.base_layer if isinstance(layer, AdaptedLinear) else layer
    return base
