"""Forward and backward of whole layers, by hand, on a CPU, for the families whose layers are all of one plain form.

Through transformers' modules a layer is some hundred small operations, and autograd keeps what each of them reads. Here
it is some thirty, products with one input are one, and what is cheap to compute again (norms, rotations, activations,
attention's weights) is not kept. benchmarks/README.md has what that saves.

Shapes: P prompts, B sequences, T tokens of each, S the tokens that those see (a prompt's and their own), d hidden size,
H query heads, K key-value heads, D head size, I inner size of the MLP; N = B*T.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from markov_cot.models.attention import Masks, attend, attend_gradients
from markov_cot.models.batching import Batch
from markov_cot.models.joined_linear import JoinedLinear
from markov_cot.models.kv_cache import KeysValues
from markov_cot.models.lora import AdaptedLinear, is_plain_linear

FAMILIES = ("LlamaModel", "MistralModel", "Qwen2Model", "Qwen3Model")
"""RMS norm, rotary attention, RMS norm, gated MLP; a Qwen 3 has norms of queries and keys besides."""
ROTATIONS = ("default", "linear", "llama3", "yarn")
"""Those that depend on a token's position alone, not on how many there are."""
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
"""Not float64, in which the modules are the reference: their norms are in float32."""


@dataclass(frozen=True, slots=True)
class RmsNorm:
    """x / rms(x) * weight, over the last dimension."""

    weight: Tensor
    epsilon: float

    @staticmethod
    def of(module: Any) -> RmsNorm:
        return RmsNorm(module.weight.detach(), module.variance_epsilon)

    def __call__(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.weight.shape, self.weight, self.epsilon)

    def gradient(self, x: Tensor, gradient: Tensor) -> Tensor:
        """That of x, from the output's.

        With r = 1 / rms(x) and h = gradient * weight: r (h - x r^2 mean(h x)).
        """
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        r = torch.linalg.vecdot(wide, wide)[..., None].div_(x.shape[-1]).add_(self.epsilon).rsqrt_()
        h = gradient * self.weight.to(wide.dtype)
        mean = torch.linalg.vecdot(h, wide)[..., None].div_(x.shape[-1])
        return torch.addcmul(h, wide, mean.mul_(r * r), value=-1).mul_(r).to(x.dtype)


@dataclass(frozen=True, slots=True)
class Rotation:
    """Rotary position embedding of tokens at given positions."""

    cos_BT1D: Tensor
    sin_BT1D: Tensor
    """With the sign of what it brings in from the other half."""

    @staticmethod
    def at(rotary: Any, like: Tensor, positions_BT: Tensor) -> Rotation:
        """By a model's own rotary module, in the dtype of `like`."""
        cos_BTD, sin_BTD = rotary(like, positions_BT)
        sin_BTD = sin_BTD.clone()
        sin_BTD[..., : sin_BTD.shape[-1] // 2].neg_()
        return Rotation(cos_BTD.unsqueeze(-2), sin_BTD.unsqueeze(-2))

    def take(self, position_B: Tensor) -> Rotation:
        """Of a table of all positions [1, length, 1, D], those of one token of each sequence [B, 1, D]."""
        return Rotation(self.cos_BT1D[0, position_B], self.sin_BT1D[0, position_B])

    def __call__(self, x_BTHD: Tensor) -> Tensor:
        return torch.addcmul(x_BTHD * self.cos_BT1D, x_BTHD.roll(x_BTHD.shape[-1] // 2, -1), self.sin_BT1D)

    def gradient(self, gradient_BTHD: Tensor) -> Tensor:
        """That of what was rotated."""
        other = (gradient_BTHD * self.sin_BT1D).roll(gradient_BTHD.shape[-1] // 2, -1)
        return torch.addcmul(other, gradient_BTHD, self.cos_BT1D)


class PlainLayer:
    """One layer: its norms, its joined maps and its sizes."""

    def __init__(self, layer: Any) -> None:
        attention, mlp = layer.self_attn, layer.mlp
        self.norms = RmsNorm.of(layer.input_layernorm), RmsNorm.of(layer.post_attention_layernorm)
        self.head_norms: tuple[RmsNorm, RmsNorm] | None = None
        if hasattr(attention, "q_norm"):
            self.head_norms = RmsNorm.of(attention.q_norm), RmsNorm.of(attention.k_norm)
        self.query_key_value = JoinedLinear([attention.q_proj, attention.k_proj, attention.v_proj])
        self.out = JoinedLinear([attention.o_proj])
        self.gate_up, self.down = JoinedLinear([mlp.gate_proj, mlp.up_proj]), JoinedLinear([mlp.down_proj])
        self.maps = (self.query_key_value, self.out, self.gate_up, self.down)
        self.size: int = attention.head_dim
        self.scaling: float = attention.scaling
        self.heads: int = attention.config.num_attention_heads
        self.key_heads: int = attention.config.num_key_value_heads

    def heads_of(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[..., H + 2K, D] -> queries and keys [..., H + K, D], normed where the family does that, and values."""
        heads = self._apart(x)
        queries_keys, values = heads.tensor_split([self.heads + self.key_heads], -2)
        if self.head_norms:
            of_queries, of_keys = self.head_norms
            queries, keys = queries_keys.tensor_split([self.heads], -2)
            queries_keys = torch.cat([of_queries(queries), of_keys(keys)], -2)
        return queries_keys, values

    def gradient_of_heads(self, x: Tensor, of_queries_keys: Tensor, of_values: Tensor) -> Tensor:
        """The gradient of x from those of what `heads_of` returned."""
        if self.head_norms:
            queries, keys, _ = self._apart(x).tensor_split([self.heads, self.heads + self.key_heads], -2)
            of_queries, of_keys = of_queries_keys.tensor_split([self.heads], -2)
            norm_queries, norm_keys = self.head_norms
            parts = [norm_queries.gradient(queries, of_queries), norm_keys.gradient(keys, of_keys), of_values]
        else:
            parts = [of_queries_keys, of_values]
        return torch.cat(parts, -2).flatten(-2)

    def _apart(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:-1], -1, self.size)


@dataclass(frozen=True, slots=True)
class _Pass:
    """What all layers share in one forward."""

    rotation: Rotation
    masks: Masks
    index_B: Tensor | None
    """Which prompt each sequence continues."""

    def wide(self, prompt_PKTD: Tensor | None, own_BTKD: Tensor) -> Tensor:
        """Keys or values that are looked at [B, K, S, D], in at least float32."""
        own = own_BTKD.transpose(1, 2)
        before = 0 if prompt_PKTD is None else prompt_PKTD.shape[2]
        shape = (*own.shape[:2], before + own.shape[2], own.shape[3])
        wide = own.new_empty(shape, dtype=torch.promote_types(own.dtype, torch.float32))
        if prompt_PKTD is not None:
            wide[:, :, :before] = prompt_PKTD if len(prompt_PKTD) == 1 else prompt_PKTD[self.index_B]
        wide[:, :, before:] = own
        return wide

    def of_prompt(self, gradient_BKSD: Tensor, prompt_PKTD: Tensor | None) -> Tensor | None:
        """The gradient of a prompt's keys or values: the sum over those that continue it."""
        if prompt_PKTD is None:
            return None
        before = gradient_BKSD[:, :, : prompt_PKTD.shape[2]]
        if self.index_B is None or len(prompt_PKTD) == 1:
            return before.sum(0, keepdim=True).to(prompt_PKTD.dtype)
        zeros = before.new_zeros(prompt_PKTD.shape)
        return zeros.index_add_(0, self.index_B, before).to(prompt_PKTD.dtype)


class _LayerFunction(torch.autograd.Function):
    """(x [B, T, d], a prompt's keys and values or None, A and B of each adapter) -> y [B, T, d], keys and values."""

    @staticmethod
    def forward(
        ctx: Any,
        layer: PlainLayer,
        of_pass: _Pass,
        x: Tensor,
        prompt_keys: Tensor | None,
        prompt_values: Tensor | None,
        *_parameters: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        maps = [each.in_use() for each in layer.maps]
        query_key_value, out, gate_up, down = maps
        before_attention, before_mlp = layer.norms
        projected = query_key_value(before_attention(x).flatten(0, 1)).view(*x.shape[:2], -1)
        queries, keys, values = _rotated(layer, of_pass, projected)
        wide_keys, wide_values = of_pass.wide(prompt_keys, keys), of_pass.wide(prompt_values, values)
        seen = attend(queries, wide_keys, wide_values, of_pass.masks, layer.scaling)
        middle = x + out(seen.flatten(2).flatten(0, 1)).view_as(x)
        gates = gate_up(before_mlp(middle).flatten(0, 1))
        y = middle + down(activated(gates)).view_as(x)
        ctx.layer, ctx.of_pass, ctx.maps = layer, of_pass, maps
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x, prompt_keys, prompt_values, projected, seen, middle, gates)
        return y, keys.transpose(1, 2), values.transpose(1, 2)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        layer, of_pass, maps = ctx.layer, ctx.of_pass, ctx.maps
        x, prompt_keys, prompt_values, projected, seen, middle, gates = ctx.saved_tensors
        of_y, of_keys, of_values = gradients
        query_key_value, out, gate_up, down = maps
        before_attention, before_mlp = layer.norms
        of_y = torch.zeros_like(x) if of_y is None else of_y
        of_hidden, of_down = down.gradients(activated(gates), of_y.flatten(0, 1))
        normed = before_mlp(middle).flatten(0, 1)
        of_normed, of_gate_up = gate_up.gradients(normed, _gradient_of_gates(gates, of_hidden))
        of_middle = before_mlp.gradient(middle, of_normed.view_as(x)).add_(of_y)
        of_seen, of_out = out.gradients(seen.flatten(2).flatten(0, 1), of_middle.flatten(0, 1))
        queries, keys, values = _rotated(layer, of_pass, projected)
        looked_at = of_pass.wide(prompt_keys, keys), of_pass.wide(prompt_values, values)
        of_queries, *of_looked_at = attend_gradients(
            of_seen.view_as(seen), seen, queries, *looked_at, of_pass.masks, layer.scaling
        )
        of_prompt = [of_pass.of_prompt(each, prompt_keys) for each in of_looked_at]
        of_own = [each[:, :, -x.shape[1] :] for each in of_looked_at]
        for each, given in zip(of_own, (of_keys, of_values), strict=True):
            if given is not None:
                each.add_(given)
        of_keys, of_values = (each.transpose(1, 2).to(x.dtype) for each in of_own)
        of_queries_keys = of_pass.rotation.gradient(torch.cat([of_queries, of_keys], -2))
        of_projected = layer.gradient_of_heads(projected, of_queries_keys, of_values).flatten(0, 1)
        needs_x = ctx.needs_input_grad[2]
        normed = before_attention(x).flatten(0, 1)
        of_normed, of_query_key_value = query_key_value.gradients(normed, of_projected, of_x=needs_x)
        of_x = before_attention.gradient(x, of_normed.view_as(x)).add_(of_middle) if of_normed is not None else None
        return None, None, of_x, *of_prompt, *of_query_key_value, *of_out, *of_gate_up, *of_down


def _rotated(layer: PlainLayer, of_pass: _Pass, projected: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Queries [B, T, H, D], keys and values [B, T, K, D]."""
    queries_keys, values = layer.heads_of(projected)
    queries, keys = of_pass.rotation(queries_keys).tensor_split([layer.heads], -2)
    return queries, keys, values


def activated(gates_up: Tensor) -> Tensor:
    """silu(gate) * up: [N, 2I] -> [N, I]."""
    gate, up = gates_up.chunk(2, -1)
    return F.silu(gate).mul_(up)


def _gradient_of_gates(gates_up: Tensor, gradient: Tensor) -> Tensor:
    """The gradient of `gates_up` from that of what it was activated to."""
    gate, up = gates_up.chunk(2, -1)
    found = torch.empty_like(gates_up)
    of_gate, of_up = found.chunk(2, -1)
    torch.mul(F.silu(gate), gradient, out=of_up)
    of_gate.copy_(torch.ops.aten.silu_backward(gradient * up, gate))
    return found


class PlainLayers:
    """All layers of a decoder."""

    def __init__(self, decoder: Any) -> None:
        """Moves weights to where they stand side by side."""
        self._decoder = decoder
        self.layers = [PlainLayer(layer) for layer in decoder.layers]
        self.joined: list[JoinedLinear] = [each for layer in self.layers for each in layer.maps]

    @staticmethod
    def of(decoder: Any) -> PlainLayers | None:
        """None where the layers are of another form."""
        return PlainLayers(decoder) if _are_plain(decoder) else None

    def __call__(
        self,
        batch: Batch,
        positions_BT: Tensor,
        seen_BS: Tensor,
        prompts: KeysValues | None = None,
        index_B: Tensor | None = None,
    ) -> tuple[Tensor, KeysValues]:
        """Hidden states [B, T, d], and keys and values [B, K, T, D] of every layer. With gradient where it is enabled.

        Sequences are whole, or the i-th continues prompt index_B[i] of `prompts`. `seen_BS` is 0 where padding is.
        """
        x = self._decoder.embed_tokens(batch.ids_BT)
        wide = torch.promote_types(x.dtype, torch.float32)
        masks = Masks.of(seen_BS, batch.ids_BT.shape[1], wide)
        of_pass = _Pass(Rotation.at(self._decoder.rotary_emb, x, positions_BT), masks, index_B)
        keys_values: list[tuple[Tensor, Tensor]] = []
        for i, layer in enumerate(self.layers):
            before = (None, None) if prompts is None else prompts[i]
            parameters = [parameter for each in layer.maps for parameter in each.parameters()]
            x, keys, values = _LayerFunction.apply(layer, of_pass, x, *before, *parameters)  # type: ignore[no-untyped-call]
            keys_values.append((keys, values))
        return self._decoder.norm(x), keys_values


def _are_plain(decoder: Any) -> bool:
    config = decoder.config
    kinds = getattr(config, "layer_types", None) or ()
    has_window = set(kinds) - {"full_attention"} if kinds else getattr(config, "sliding_window", None)
    if type(decoder).__name__ not in FAMILIES or has_window or decoder.rotary_emb.rope_type not in ROTATIONS:
        return False
    if decoder.embed_tokens.weight.dtype not in DTYPES:
        return False
    return config.hidden_act == "silu" and all(map(_is_plain, decoder.layers))


def _is_plain(layer: Any) -> bool:
    """Whether all its maps are plain linear ones, and those with one input alike in dtype and in having a bias."""
    attention, mlp = layer.self_attn, layer.mlp
    groups = (attention.q_proj, attention.k_proj, attention.v_proj), (attention.o_proj,), (mlp.gate_proj, mlp.up_proj)
    for group in (*groups, (mlp.down_proj,)):
        bases = [x.base_layer if type(x) is AdaptedLinear else x for x in group]
        if not all(map(is_plain_linear, bases)):
            return False
        if len({(base.bias is None, base.weight.dtype) for base in bases}) > 1:
            return False
    return True
