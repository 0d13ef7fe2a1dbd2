"""Decoding in few operations, on a CPU, for the families whose layers are all of one plain form.

Through transformers' modules the forward of one token is some 150 small operations and as many calls of Python between
them, which for small models take longer than the arithmetic. Here the products with one input are one product with the
adapter in it, its weight laid out once for the whole decoding, and the rotations of all positions are known before it.

Shapes: P prompts, G samples of each, B = P*G sequences (prompt-major), T padded prompt tokens, d hidden size, D head
size; H heads of queries, K of keys and as many of values.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor

from markov_cot.models.attention import mask_of
from markov_cot.models.joined_linear import JoinedLinear
from markov_cot.models.linear import product
from markov_cot.models.plain_layers import PlainLayer, RmsNorm, Rotation, activated
from markov_cot.models.policy import Policy, Prefix
from markov_cot.rollouts.attention import SharedPrompts


class FusedSequences:
    """B sequences that grow by a token at a time."""

    def __init__(self, policy: Policy, prefix: Prefix, samples: int, room: int) -> None:
        assert policy.plain_layers, "see decodes_fused"
        prompts, length = prefix.mask_PT.shape
        index_B = torch.arange(prompts).repeat_interleave(samples)
        self.hidden_Bd = prefix.hidden_Pd[index_B]
        """Of the last token of each, from which the next is predicted."""
        self._policy, self._plain = policy, policy.plain_layers
        self._position_B = prefix.length_P1[index_B, 0]
        positions_1L = torch.arange(length + room)[None]
        self._rotation = Rotation.at(policy.decoder.rotary_emb, self.hidden_Bd, positions_1L)
        self._attentions = [SharedPrompts(keys, values, samples, room) for keys, values in prefix.keys_values]
        self._mask_PT = mask_of(prefix.mask_PT, torch.promote_types(self.hidden_Bd.dtype, torch.float32))
        self._layers: list[_Layer] = []
        self._last_norm = RmsNorm.of(policy.decoder.norm)

    @contextlib.contextmanager
    def ready(self) -> Iterator[None]:
        """Within it, `append` may be called; entered once it is settled who is acting."""
        with self._policy.decoding():
            self._layers = [_Layer(layer) for layer in self._plain.layers]
            yield
            self._layers = []

    def append(self, token_B: Tensor) -> None:
        """Reads one more token of each."""
        rotation = self._rotation.take(self._position_B)
        x_Bd = self._policy.decoder.embed_tokens(token_B)
        for layer, attention in zip(self._layers, self._attentions, strict=True):
            x_Bd = layer(x_Bd, rotation, self._mask_PT, attention)
        self.hidden_Bd = self._last_norm(x_Bd)
        self._position_B = self._position_B + 1


class _PackedLinear:
    """The map of layers with one input, laid out for many calls with few rows."""

    def __init__(self, joined: JoinedLinear) -> None:
        in_use = joined.in_use()
        self._weight, self._bias = joined.packed(), in_use.bias
        self._adapters: tuple[Tensor, Tensor] | None = None
        if in_use.adapters and not in_use.is_folded:
            self._adapters = in_use.adapters.low.T.contiguous(), in_use.adapters.high.T.contiguous()

    def __call__(self, x: Tensor) -> Tensor:
        """[..., in] -> [..., out] in the weights' dtype."""
        out = product(x, self._weight, self._bias)
        if self._adapters:
            low, high = self._adapters
            out.add_(x.to(low.dtype) @ low @ high)
        return out


class _Layer:
    """One layer's forward of one token, with the weights in use when it was made."""

    def __init__(self, layer: PlainLayer) -> None:
        self._layer = layer
        self._queries_keys_values, self._out, self._gate_up, self._down = map(_PackedLinear, layer.maps)

    def __call__(self, x_Bd: Tensor, rotation: Rotation, mask_PT: Tensor | None, attention: SharedPrompts) -> Tensor:
        layer = self._layer
        before_attention, before_mlp = layer.norms
        queries_keys, values = layer.heads_of(self._queries_keys_values(before_attention(x_Bd)))
        queries, keys = rotation(queries_keys).tensor_split([layer.heads], 1)
        queries = queries.reshape(len(queries), layer.key_heads, -1, layer.size)
        seen = attention.attend(queries, keys, values, mask_PT, layer.scaling)
        x_Bd = x_Bd + self._out(seen.flatten(1))
        return x_Bd + self._down(activated(self._gate_up(before_mlp(x_Bd))))


def decodes_fused(policy: Policy) -> bool:
    """Whether a model is of a kind whose tokens' forwards are computed here."""
    return policy.may_join_layers and policy.shares_prompts
