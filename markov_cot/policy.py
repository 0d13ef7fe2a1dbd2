"""One base model with one adapter: the actor with the adapter on, the critic with it off. No second copy of weights.

Shapes: P prompts, B sequences, T tokens of a padded context, d hidden size, V vocabulary.
Attention masks and position ids are always given.
A forward ends at the hidden states: logits are made from those of them that are needed.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import AuxiliaryTrainingWrapper
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from transformers import Cache, DynamicCache, PreTrainedTokenizerFast

from markov_cot.batches import Batch
from markov_cot.caches import KeysValues, shared_cache
from markov_cot.errors import UserError
from markov_cot.lora import AdaptedLinear, Folding, affords_copy
from markov_cot.products import NARROW_DTYPES, pack_wide, wide_product

logger = logging.getLogger(__name__)

ATTENTION = {"full_attention", "sliding_attention"}
"""Kinds of layers whose whole state is their keys and values."""
PROBE_TOKENS = 4


@dataclass(frozen=True, slots=True)
class Prefix:
    """Prompts that were read: what sequences need to go on from them."""

    keys_values: KeysValues
    hidden_Pd: Tensor
    """Hidden state of each prompt's last token, from which the next is predicted."""
    mask_PT: Tensor
    length_P1: Tensor
    """Tokens of each prompt without padding: the position of the next one."""


class Policy:
    """Actor and critic over one set of base weights, and the distribution CoTs are drawn from."""

    def __init__(self, model: PeftModel, tokenizer: PreTrainedTokenizerFast, temperature: float = 1.0) -> None:
        """Raises `UserError` for a model whose logits are not made from its last hidden states."""
        self.model = model
        self.tokenizer = tokenizer
        self.temperature = temperature
        self.device = model.device
        self._causal_lm = model.get_base_model()
        self._config = model.config.get_text_config()
        self.vocabulary: int = self._config.vocab_size
        # Padding is masked, so any id will do that has an embedding: a [PAD] added to the tokenizer alone has none.
        pad_id = tokenizer.pad_token_id
        self.pad_id: int = pad_id if pad_id is not None and pad_id < self.vocabulary else 0
        self.max_length: int = self._config.max_position_embeddings
        self._checkpointing = any(getattr(m, "gradient_checkpointing", False) for m in model.modules())
        # FSDP gathers weights for a backward when the gradient reaches a layer's output. Where keys and values are all
        # that is used of a prompt, it never reaches the last layer's; and one forward gathers half as much as two.
        self._sharded = any(isinstance(parameter, DTensor) for parameter in model.parameters())
        self._adapters = [m for m in model.modules() if isinstance(m, BaseTunerLayer)]
        self._has_other_parts = any(isinstance(m, AuxiliaryTrainingWrapper) for m in model.modules())
        self._folding = Folding(model)
        self._packed_head: Tensor | None = None
        model.eval()
        self._check_head()
        self._can_share = self._can_share_prompts()

    # --- who is acting

    @contextlib.contextmanager
    def acting_as(self, role: str) -> Iterator[None]:
        """Within it, forwards are the "actor"'s (adapter on) or the "critic"'s (adapter off)."""
        assert role in ("actor", "critic"), role
        if role == "actor":
            with self.folded():
                yield
        elif self._has_other_parts:
            with self.model.disable_adapter():
                yield
        else:
            # PEFT's own switch walks through all modules and changes which parameters ask for gradients.
            self._switch_adapters(disabled=True)
            try:
                yield
            finally:
                self._switch_adapters(disabled=False)

    @contextlib.contextmanager
    def folded(self) -> Iterator[None]:
        """Within it, the actor's weights are computed once, from the parameters it was entered with."""
        with self._folding.folded():
            yield

    @contextlib.contextmanager
    def decoding(self) -> Iterator[None]:
        """Within it, the head is laid out for one token of each sequence at a time."""
        assert not torch.is_grad_enabled()
        head = self._head()
        self._packed_head = pack_wide(head.weight) if head is not None else None
        try:
            yield
        finally:
            self._packed_head = None

    def _switch_adapters(self, *, disabled: bool) -> None:
        for adapter in self._adapters:
            adapter._disable_adapters = disabled

    @property
    def is_actor(self) -> bool:
        """Whether forwards are the actor's now."""
        return not any(adapter.disable_adapters for adapter in self._adapters)

    # --- forwards

    def decodes_statically(self, places: int) -> bool:
        """Whether a token's forward can be a CUDA graph, with caches of so many places.

        Not with weights that are folded anew, whose addresses change, nor with a window, which counts from the end.
        """
        window = getattr(self._config, "sliding_window", None)
        plain = self._can_share and not self._folding.folds and not getattr(self._causal_lm, "is_loaded_in_4bit", False)
        return self.device.type == "cuda" and plain and (window is None or window >= places)

    @property
    def decoder(self) -> Any:
        """transformers' model without its head: embeddings, layers and the last norm."""
        return self._causal_lm.base_model

    @property
    def may_join_layers(self) -> bool:
        """Whether the layers' weights are plain, whole and small enough to be copied for decoding."""
        plain = all(type(adapter) is AdaptedLinear for adapter in self._adapters)
        return plain and not (self._has_other_parts or self._sharded) and affords_copy(self.decoder.layers.parameters())

    @property
    def shares_prompts(self) -> bool:
        """Whether a prompt is read once for all that goes on from it; else every sequence is read whole."""
        return self._can_share and not ((self._checkpointing or self._sharded) and torch.is_grad_enabled())

    def hidden(self, batch: Batch) -> Tensor:
        """Hidden states [B, T, d] of whole contexts."""
        with self._checkpointed():
            return self._forward(batch.ids_BT, batch.mask_BT, batch.positions_BT, None)

    def read(self, prompts: Batch) -> Prefix:
        """Reads P prompts, with gradient where it is enabled."""
        cache = DynamicCache()
        hidden_PTd = self._forward(prompts.ids_BT, prompts.mask_BT, prompts.positions_BT, cache)
        keys_values = [(layer.keys, layer.values) for layer in cache.layers]
        return Prefix(keys_values, hidden_PTd[:, -1], prompts.mask_BT, prompts.mask_BT.sum(1, keepdim=True))

    def extend(self, prefix: Prefix, index_B: Tensor, batch: Batch) -> Tensor:
        """Hidden states [B, T, d] of continuations (padded on the right); the i-th goes on from prompt index_B[i]."""
        mask_BT = torch.cat([prefix.mask_PT[index_B], batch.mask_BT], 1)
        positions_BT = prefix.length_P1[index_B] + batch.positions_BT
        return self._forward(batch.ids_BT, mask_BT, positions_BT, shared_cache(prefix.keys_values, index_B))

    def read_apart(self, contexts: Batch) -> tuple[Tensor, Cache]:
        """Hidden state [B, d] of each context's last token, and the model's own kind of cache of all of them."""
        output = self.decoder(
            input_ids=contexts.ids_BT,
            attention_mask=contexts.mask_BT,
            position_ids=contexts.positions_BT,
            use_cache=True,
        )
        return output.last_hidden_state[:, -1], output.past_key_values

    def step(self, ids_B: Tensor, mask_BT: Tensor, position_B1: Tensor, cache: Cache) -> Tensor:
        """Hidden states [B, d] of one more token of each sequence in `cache`; the mask covers all so far."""
        return self._forward(ids_B[:, None], mask_BT, position_B1, cache)[:, -1]

    def _forward(self, ids_BT: Tensor, mask_BT: Tensor, positions_BT: Tensor, cache: Cache | None) -> Tensor:
        hidden_BTd: Tensor = self.decoder(
            input_ids=ids_BT,
            attention_mask=mask_BT,
            position_ids=positions_BT,
            past_key_values=cache,
            use_cache=cache is not None,
        ).last_hidden_state
        return hidden_BTd

    @contextlib.contextmanager
    def _checkpointed(self) -> Iterator[None]:
        """Gradient checkpointing where it is on: it works in training mode only, in which no cache can be kept."""
        needed = self._checkpointing and torch.is_grad_enabled()
        if needed:
            self.model.train()
        try:
            yield
        finally:
            if needed:
                self.model.eval()

    # --- from hidden states to log-probabilities

    def logits(self, hidden: Tensor) -> Tensor:
        """Next-token logits [..., V] of hidden states [..., d], in at least float32."""
        logits = self._head_outputs(hidden)
        if scale := getattr(self._config, "logit_scale", None):  # Cohere
            logits = logits * scale
        if scaling := getattr(self._config, "logits_scaling", None):  # Granite
            logits = logits / scaling
        if cap := getattr(self._config, "final_logit_softcapping", None):  # Gemma
            logits = cap * torch.tanh(logits / cap)
        return logits

    def _head_outputs(self, hidden: Tensor) -> Tensor:
        """[..., V] without rounding to 16 bits, unless the output layer is of a kind that rounds by itself."""
        output, head = self._causal_lm.get_output_embeddings(), self._head()
        if head is not None:
            return wide_product(hidden, head.weight if self._packed_head is None else self._packed_head, head.bias)
        if type(output) is AdaptedLinear and hidden.dtype in NARROW_DTYPES:
            logits = wide_product(hidden, output.base_layer.weight, output.base_layer.bias)
            if output.disable_adapters:
                return logits
            a, b, scaling = output.adapter()
            return logits + scaling * (hidden.to(a.dtype) @ a.T @ b.T)
        return _at_least_float32(output(hidden))

    def _head(self) -> nn.Linear | None:
        """The output layer, if it is a frozen linear one without an adapter."""
        head = self._causal_lm.get_output_embeddings()
        return head if type(head) is nn.Linear else None

    def cot_logits(self, hidden: Tensor) -> Tensor:
        """Logits [..., V] of the distribution CoT tokens are sampled from and scored with: tempered, some banned.

        In memory of their own. Banned tokens get `finfo.min`: with -inf, the KL divergence would be
        NaN, and so would its gradient.
        """
        logits = self.logits(hidden)
        if self.temperature != 1:
            logits = logits / self.temperature
        # Behind autograd's back: a probability of 0 has no gradient, so there is nothing for it to know.
        logits.detach().index_fill_(-1, self._banned_ids, torch.finfo(logits.dtype).min)
        return logits

    def cot_logp(self, hidden: Tensor) -> Tensor:
        """Log-probabilities [..., V] of the distribution CoT tokens are sampled from and scored with."""
        return self.cot_logits(hidden).log_softmax(-1)

    def answer_logp(self, hidden: Tensor) -> Tensor:
        """Log-probabilities [..., V] answers are scored with: untempered, nothing banned."""
        return self.logits(hidden).log_softmax(-1)

    # --- tokens and parameters

    @cached_property
    def banned_V(self) -> Tensor:
        """bool: special tokens, every EOS, and ids beyond the tokenizer, none of which belongs inside a CoT."""
        banned = torch.zeros(self.vocabulary, dtype=torch.bool)
        banned[len(self.tokenizer) :] = True
        special = set(self.tokenizer.all_special_ids) | set(self.eos_ids)
        special |= {i for i, token in self.tokenizer.added_tokens_decoder.items() if token.special}
        banned[[i for i in special if i < self.vocabulary]] = True
        return banned.to(self.device)

    @cached_property
    def _banned_ids(self) -> Tensor:
        return self.banned_V.nonzero().flatten()

    @cached_property
    def eos_ids(self) -> tuple[int, ...]:
        """EOS ids of the tokenizer and of the model's generation config."""
        generation = getattr(self.model.generation_config, "eos_token_id", None)
        ids = generation if isinstance(generation, list) else [generation]
        return tuple({i for i in (*ids, self.tokenizer.eos_token_id) if i is not None})

    @cached_property
    def ends_answer_V(self) -> Tensor:
        """bool: tokens after which a generated answer is over: those with a newline in them, and EOS."""
        texts = self.tokenizer.batch_decode([[i] for i in range(min(len(self.tokenizer), self.vocabulary))])
        ends = torch.zeros(self.vocabulary, dtype=torch.bool)
        ends[: len(texts)] = torch.tensor(["\n" in text for text in texts])
        ends[[i for i in self.eos_ids if i < self.vocabulary]] = True
        return ends.to(self.device)

    def trainable(self) -> dict[str, torch.nn.Parameter]:
        """The adapter's parameters by name."""
        return {name: p for name, p in self.model.named_parameters() if p.requires_grad}

    # --- checks

    @torch.no_grad()
    def _check_head(self) -> None:
        probe = self._probe()
        expected: Tensor = self._causal_lm(input_ids=probe.ids_BT, attention_mask=probe.mask_BT).logits
        if not close(self.logits(self.hidden(probe)).to(expected.dtype), expected):
            raise UserError(
                f"model {self._causal_lm.name_or_path}: makes its logits in a way that is not known here "
                f"({type(self._causal_lm).__name__}); use a model of another family"
            )

    @torch.no_grad()
    def _can_share_prompts(self) -> bool:
        kinds = set(getattr(self._config, "layer_types", None) or ())
        if self._checkpointing:
            logger.warning(
                "model.gradient_checkpointing keeps no keys and values: updates read prompts for each sample"
            )
        if kinds - ATTENTION or getattr(self._causal_lm, "_is_stateful", False):
            reason = f"{type(self._causal_lm).__name__} has layers that are not plain attention"
        elif not self._shares_rightly():
            reason = f"{type(self._causal_lm).__name__} computes something else from keys and values kept"
        else:
            return True
        logger.warning("prompts are read anew for each sample, which is slower: %s", reason)
        return False

    def _shares_rightly(self) -> bool:
        probe, half = self._probe(), PROBE_TOKENS // 2
        parts = [Batch(probe.ids_BT[:, s], probe.mask_BT[:, s]) for s in (slice(half), slice(half, None))]
        index_B = torch.zeros(1, dtype=torch.long, device=self.device)
        return close(self.extend(self.read(parts[0]), index_B, parts[1]), self.hidden(probe)[:, half:])

    def _probe(self) -> Batch:
        ids_BT = torch.arange(PROBE_TOKENS, device=self.device)[None] % self.vocabulary
        return Batch(ids_BT, torch.ones_like(ids_BT))


def _at_least_float32(logits: Tensor) -> Tensor:
    return logits if logits.dtype == torch.float64 else logits.float()


def close(a: Tensor, b: Tensor) -> bool:
    """Whether they are equal up to rounding of their dtype, which a mistake in a mask or a missing factor exceeds."""
    tolerance = 0.05 if a.dtype == torch.bfloat16 else 1e-3
    return bool((a - b).abs().max() <= tolerance * b.abs().max())
