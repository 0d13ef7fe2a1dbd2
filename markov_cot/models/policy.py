"""The actor's and the critic's distributions: over the tokens of a CoT, and over those of an answer.

Logits are made from those hidden states that are needed.

Shapes: d hidden size, V vocabulary.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from functools import cached_property, partial
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from markov_cot.models.agreement import Expected, usual_ids
from markov_cot.models.batching import Batch
from markov_cot.models.forwards import Forwards, Prefix
from markov_cot.models.linear import NARROW_DTYPES, pack_wide, wide_product
from markov_cot.models.lora import AdaptedLinear
from markov_cot.models.roles import ACTOR, CRITIC
from markov_cot.models.trials import try_paths
from markov_cot.utils.errors import UserError

__all__ = ["Policy", "Prefix"]

PROBE_LENGTH = 7
"""Tokens whose logits are compared with the base's own."""


class Policy(Forwards):
    """Actor and critic over one set of base weights, and the distribution CoTs are drawn from."""

    def __init__(self, model: PeftModel, tokenizer: PreTrainedTokenizerFast, temperature: float = 1.0) -> None:
        """Raises `UserError` for a model whose logits are not made from its last hidden states."""
        super().__init__(model)
        self.tokenizer = tokenizer
        self.temperature = temperature
        # Padding is masked, so any id will do that has an embedding: a [PAD] added to the tokenizer alone has none.
        pad_id = tokenizer.pad_token_id
        self.pad_id: int = pad_id if pad_id is not None and pad_id < self.vocabulary else 0
        self._packed_head: Tensor | None = None
        try_paths(self)
        self._check_head()

    def at_temperature(self, temperature: float) -> Policy:
        """Return the same policy with CoTs drawn at another temperature."""
        tempered = copy.copy(self)
        tempered.temperature = temperature
        return tempered

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
        ends = self.ends_text_V.clone()
        ends[: len(texts)] |= torch.tensor(["\n" in text for text in texts], device=self.device)
        return ends

    @cached_property
    def ends_text_V(self) -> Tensor:
        """bool: tokens after which any generated text is over: every EOS."""
        ends = torch.zeros(self.vocabulary, dtype=torch.bool)
        ends[[i for i in self.eos_ids if i < self.vocabulary]] = True
        return ends.to(self.device)

    def trainable(self) -> dict[str, torch.nn.Parameter]:
        """The adapter's parameters by name."""
        return {name: p for name, p in self.model.named_parameters() if p.requires_grad}

    # --- checks

    @torch.no_grad()
    def _check_head(self) -> None:
        """Compares with the base's own logits, of its own modules."""
        ids_1T = torch.tensor([usual_ids(self.vocabulary, range(PROBE_LENGTH))], device=self.device)
        for role in (CRITIC, ACTOR):
            with self.by_plain_modules(role) as base:
                right = Expected.of(self.embeddings, partial(_logits, base, ids_1T))
            with self.acting_as(role):
                found = self.logits(self.hidden(Batch(ids_1T, torch.ones_like(ids_1T))))
            if not right.agrees([found.to(right.values[0].dtype)]):
                raise UserError(
                    f"model {self.model_name}: makes its logits in a way that is not known here "
                    f"({self.name}); use a model of another family"
                )


def _logits(base: Any, ids_BT: Tensor) -> list[Tensor]:
    return [base(input_ids=ids_BT).logits]


def _at_least_float32(logits: Tensor) -> Tensor:
    return logits if logits.dtype == torch.float64 else logits.float()
