"""Decoding in few operations, on a CPU, for the families whose layers are all of one plain form.

Through transformers' modules the forward of one token is some 150 small operations and as many calls of Python between
them, which for small models take longer than the arithmetic. Here the products with one input are one product with the
adapter in it, its weight laid out once for the whole decoding, and the rotations of all positions are known before it.

Shapes: P prompts, G samples of each, B = P*G sequences (prompt-major), T padded prompt tokens, d hidden size, D head
size; H heads of queries, K of keys and as many of values.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from markov_cot.models.batching import Batch
from markov_cot.models.forwards import close, fault_of
from markov_cot.models.lora import FusedLinear
from markov_cot.models.policy import Policy, Prefix
from markov_cot.rollouts.attention import CopiedPrompts, SharedPrompts

FAMILIES = ("LlamaModel", "MistralModel", "Qwen2Model", "Qwen3Model")
"""RMS norm, rotary attention, RMS norm, gated MLP; a Qwen 3 has norms of queries and keys besides."""
ROTATIONS = ("default", "linear", "llama3", "yarn")
"""Those that depend on a token's position alone, not on how many there are."""
Attention = CopiedPrompts | SharedPrompts
PROBE = (3, 5, 7, 11)
LONG_PROMPT = 128
"""Tokens from which one copy of a prompt makes up for attention in two parts; in bfloat16 it always does."""


class FusedSequences:
    """B sequences that grow by a token at a time."""

    def __init__(self, policy: Policy, prefix: Prefix, samples: int, room: int) -> None:
        prompts, length = prefix.mask_PT.shape
        index_B = torch.arange(prompts).repeat_interleave(samples)
        self.hidden_Bd = prefix.hidden_Pd[index_B]
        """Of the last token of each, from which the next is predicted."""
        self._policy, self._end = policy, length
        self._position_B = prefix.length_P1[index_B, 0]
        self._cos, self._sin = _rotations(policy.decoder, self.hidden_Bd, length + room)
        dtype = self.hidden_Bd.dtype
        kind = SharedPrompts if dtype == torch.bfloat16 or length >= LONG_PROMPT else CopiedPrompts
        self._attentions = [kind(keys, values, samples, room) for keys, values in prefix.keys_values]
        self._mask_B11T: Tensor | None = None
        if not prefix.mask_PT.all():
            masked_BT = F.pad(prefix.mask_PT[index_B] == 0, (0, room))
            zeros_BT = torch.zeros(masked_BT.shape, dtype=torch.promote_types(dtype, torch.float32))
            self._mask_B11T = zeros_BT.masked_fill_(masked_BT, -torch.inf)[:, None, None]
        self._layers: list[_Layer] = []
        self._last_norm = _norm(policy.decoder.norm)

    @contextlib.contextmanager
    def ready(self) -> Iterator[None]:
        """Within it, `append` may be called; entered once it is settled who is acting."""
        with self._policy.decoding():
            self._layers = [_Layer(layer) for layer in self._policy.decoder.layers]
            yield
            self._layers = []

    def append(self, token_B: Tensor) -> None:
        """Reads one more token of each."""
        self._end += 1
        mask = None if self._mask_B11T is None else self._mask_B11T[..., : self._end]
        cos_B1D, sin_B1D = (table[self._position_B, None] for table in (self._cos, self._sin))
        x_Bd = self._policy.decoder.embed_tokens(token_B)
        for layer, attention in zip(self._layers, self._attentions, strict=True):
            x_Bd = layer(x_Bd, cos_B1D, sin_B1D, mask, attention)
        self.hidden_Bd = self._last_norm(x_Bd)
        self._position_B = self._position_B + 1


class _Layer:
    """One layer's forward of one token, with the weights in use when it was made."""

    def __init__(self, layer: Any) -> None:
        attention, mlp = layer.self_attn, layer.mlp
        self._norms = _norm(layer.input_layernorm), _norm(layer.post_attention_layernorm)
        self._queries_keys_values = FusedLinear([attention.q_proj, attention.k_proj, attention.v_proj])
        self._out = FusedLinear([attention.o_proj])
        self._gate_up, self._down = FusedLinear([mlp.gate_proj, mlp.up_proj]), FusedLinear([mlp.down_proj])
        self._activation = mlp.act_fn
        self._size, self._scaling = attention.head_dim, attention.scaling
        self._heads = attention.config.num_attention_heads
        self._key_heads = attention.config.num_key_value_heads
        self._head_norms = None
        if hasattr(attention, "q_norm"):
            self._head_norms = _norm(attention.q_norm), _norm(attention.k_norm)

    def __call__(
        self, x_Bd: Tensor, cos_B1D: Tensor, sin_B1D: Tensor, mask_B11T: Tensor | None, attention: Attention
    ) -> Tensor:
        before_attention, before_mlp = self._norms
        heads = self._queries_keys_values(before_attention(x_Bd)).view(len(x_Bd), -1, self._size)
        queries_keys, values = heads.tensor_split([self._heads + self._key_heads], 1)
        if self._head_norms:
            of_queries, of_keys = self._head_norms
            queries, keys = queries_keys.tensor_split([self._heads], 1)
            queries_keys = torch.cat([of_queries(queries), of_keys(keys)], 1)
        queries_keys = queries_keys * cos_B1D + queries_keys.roll(self._size // 2, -1) * sin_B1D
        queries, keys = queries_keys.tensor_split([self._heads], 1)
        queries = queries.view(len(x_Bd), self._key_heads, -1, self._size)
        seen = attention.attend(queries, keys, values, mask_B11T, self._scaling)
        x_Bd = x_Bd + self._out(seen.flatten(1))
        gate, up = self._gate_up(before_mlp(x_Bd)).chunk(2, -1)
        return x_Bd + self._down(self._activation(gate) * up)


def _rotations(decoder: Any, like: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines [length, D] of all positions; a sine has the sign of what it brings in from the other half."""
    cos_1LD, sin_1LD = decoder.rotary_emb(like, torch.arange(length)[None])
    sin_LD = sin_1LD[0].clone()
    sin_LD[:, : sin_LD.shape[1] // 2].neg_()
    return cos_1LD[0], sin_LD


def _norm(module: Any) -> Callable[[Tensor], Tensor]:
    """An RMS norm; in float32 by torch's own function, one call instead of six."""
    weight: Tensor = module.weight
    if weight.dtype != torch.float32:  # the module rounds in between, and scoring goes through the module
        norm: Callable[[Tensor], Tensor] = module
        return norm
    return lambda x: F.rms_norm(x, weight.shape, weight, module.variance_epsilon)


@functools.lru_cache(maxsize=1)
def decodes_fused(policy: Policy) -> bool:
    """Whether a token's forward is computed here to the same effect: by the model's kind, and as tried on one token.

    Without gradient, for whoever is acting.
    """
    decoder, config = policy.decoder, policy.decoder.config
    kinds = getattr(config, "layer_types", None) or ()
    has_window = set(kinds) - {"full_attention"} if kinds else getattr(config, "sliding_window", None)
    is_plain = type(decoder).__name__ in FAMILIES and not has_window and decoder.rotary_emb.rope_type in ROTATIONS
    if not (is_plain and policy.device.type == "cpu" and policy.shares_prompts and policy.may_join_layers):
        return False
    return not fault_of(functools.partial(_is_right, policy))


def _is_right(policy: Policy) -> bool:
    ids_1T = torch.tensor([PROBE]) % policy.vocabulary
    ones_1T = torch.ones_like(ids_1T)
    sequences = FusedSequences(policy, policy.read(Batch(ids_1T[:, :-1], ones_1T[:, :-1])), 1, 1)
    with sequences.ready():
        sequences.append(ids_1T[:, -1])
    return close(sequences.hidden_Bd, policy.hidden(Batch(ids_1T, ones_1T))[:, -1])
