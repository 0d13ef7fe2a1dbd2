"""Forwards of one base model with one adapter: the actor with it on, frozen roles with it off or as it once was.

Shapes: P prompts, B sequences, T tokens of a padded context, d hidden size.
Attention masks and position ids are always given, where a model takes them.
A forward ends at the hidden states.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.nn import functional as F
from transformers import Cache, DynamicCache

from markov_cot.models.adapter_switch import AdapterSwitch, has_other_parts
from markov_cot.models.batching import Batch, alike
from markov_cot.models.checkpointing import Checkpointing
from markov_cot.models.compat import accepted_arguments, cache_argument, context_length, decoder_of
from markov_cot.models.kv_cache import KeysValues, shared_cache
from markov_cot.models.lora import MergedAdapter, affords_copy
from markov_cot.models.paths import (
    ADAPTED,
    BY_HAND,
    CHECKPOINTED,
    DECODERS,
    FOLDED,
    PADDED,
    SHARED,
    SLOWER,
    WAYS,
    Paths,
)
from markov_cot.models.plain_layers import PlainLayers
from markov_cot.models.roles import ACTOR, Role
from markov_cot.utils.errors import UserError

logger = logging.getLogger(__name__)

ATTENTION = {"full_attention", "sliding_attention"}
"""Kinds of layers whose whole state is their keys and values."""


@dataclass(frozen=True, slots=True)
class Prefix:
    """Prompts that were read: what sequences need to continue from them."""

    keys_values: KeysValues
    hidden_Pd: Tensor
    """Hidden state of each prompt's last token, from which the next is predicted."""
    mask_PT: Tensor
    length_P1: Tensor
    """Tokens of each prompt without padding: the position of the next one."""


class Forwards:
    """The actor and the frozen roles over one set of base weights. No second copy of those.

    What `paths` allows is tried on a few tokens by `trials`, and on a run's own contexts by `path_check`.
    """

    def __init__(self, model: PeftModel) -> None:
        self.model = model
        self.device = model.device
        self.paths = Paths(captures=self.device.type == "cuda")
        self._causal_lm = model.get_base_model()
        self._config = model.config.get_text_config()
        self.vocabulary: int = self._config.vocab_size
        self.max_length = context_length(self._config)
        self.name = type(self._causal_lm).__name__
        self.model_name = str(self._causal_lm.name_or_path)
        self._accepted = accepted_arguments(self.decoder)
        self._cache_argument = cache_argument(self.decoder)
        self._checkpointing = Checkpointing(model)
        # FSDP gathers weights for a backward when the gradient reaches a layer's output. Where keys and values are all
        # that is used of a prompt, it never reaches the last layer's; and one forward gathers half as much as two.
        self._sharded = any(isinstance(parameter, DTensor) for parameter in model.parameters())
        whole = self.device.type == "cpu" and not self._sharded and not has_other_parts(model)
        self.plain_layers = PlainLayers.of(self.decoder) if whole else None
        """What can compute the layers, and decode, in the place of transformers' modules."""
        self._folding = MergedAdapter(model, self.plain_layers.joined if self.plain_layers else ())
        self.adapter = AdapterSwitch(model, self._folding)
        model.eval()
        if self.device.type == "cuda":
            # On Hopper with torch 2.11 or later, its gradients are reported to be NaN where there are 64 more keys than
            # a multiple of 128 and a row sees none, as padding does (github.com/pytorch/pytorch/issues/196678).
            torch.backends.cuda.enable_cudnn_sdp(False)

    # --- who is acting

    def acting_as(self, role: Role) -> AbstractContextManager[None]:
        """Within it, forwards are a role's: by the adapter that is trained, by none, or by one kept for the role."""
        return self.adapter.acting_as(role, self.folded)

    @contextlib.contextmanager
    def folded(self) -> Iterator[None]:
        """Within it, the actor's weights are computed once, from the parameters it was entered with."""
        with self._folding.folded() if self.folds else contextlib.nullcontext():
            yield

    # --- what may be done

    def rule_out(self, *paths: str, reason: str) -> None:
        """Has the run do without some of its paths, and says so in one line."""
        new = [path for path in paths if self.paths.allow(path)]
        if PADDED in new and self._sharded:
            raise UserError(f"model.shard: {reason}, so it cannot be sharded; set model.shard=false")
        self.paths.ruled_out.update(new)
        if ADAPTED in new:
            self._folding.leave_to_peft()
        # Of several decoders, the last one's absence is what a run notices.
        telling = [path for path in new if path in WAYS] + [path for path in new if path in DECODERS][-1:]
        if telling:
            logger.warning("%s, which is slower: %s", " and ".join(SLOWER[path] for path in telling), reason)

    @contextlib.contextmanager
    def without(self, paths: Iterable[str]) -> Iterator[None]:
        """Within it, some paths are not used."""
        before = self.paths.ruled_out
        self.paths.ruled_out = before | set(paths)
        try:
            with self._folding.by_peft() if ADAPTED in self.paths.ruled_out else contextlib.nullcontext():
                yield
        finally:
            self.paths.ruled_out = before

    @property
    def folds(self) -> bool:
        """Whether there is anything to fold, and it may be."""
        return self._folding.folds and self.paths.allow(FOLDED) and self.paths.allow(ADAPTED)

    def decodes_statically(self, places: int) -> bool:
        """Whether a token's forward can be a CUDA graph, with caches of so many places.

        Not with weights that are folded again, whose addresses change, nor with those that are gathered in every
        forward, nor with a window, which counts from the end.
        """
        window = getattr(self._config, "sliding_window", None)
        plain = self.shares_prompts and not self._sharded and not self.folds
        plain = plain and not getattr(self._causal_lm, "is_loaded_in_4bit", False)
        return self.device.type == "cuda" and plain and (window is None or window >= places)

    @property
    def decoder(self) -> Any:
        """transformers' model without its head: embeddings, layers and the last norm."""
        return decoder_of(self._causal_lm)

    @property
    def embeddings(self) -> Any:
        """Of the tokens."""
        return self._causal_lm.get_input_embeddings()

    @property
    def _layers_by_hand(self) -> PlainLayers | None:
        """What computes the layers in the place of transformers' modules; None where those are to do it."""
        possible = self.paths.allow(BY_HAND) and not self._folding.is_left_to_peft
        return self.plain_layers if possible and not (self.checkpoints and torch.is_grad_enabled()) else None

    @property
    def may_join_layers(self) -> bool:
        """Whether the layers' weights are plain, and small enough to be copied for decoding."""
        if self.plain_layers is None or self._folding.is_left_to_peft:
            return False
        return affords_copy(self.decoder.layers.parameters())

    @property
    def unshareable(self) -> str:
        """Why a prompt's keys and values cannot be kept, by the model's kind; "" if they can."""
        kinds = set(getattr(self._config, "layer_types", None) or ())
        if kinds - ATTENTION or getattr(self._causal_lm, "_is_stateful", False):
            return "has layers that are not plain attention"
        return "" if self._cache_argument else "takes no keys and values that were kept"

    @property
    def shares_prompts(self) -> bool:
        """Whether a prompt is read once for all that continues from it; else every sequence is read whole."""
        possible = self.paths.allow(SHARED) and self.paths.allow(PADDED)
        return possible and not ((self.checkpoints or self._sharded) and torch.is_grad_enabled())

    @property
    def checkpoints(self) -> bool:
        """Whether layers keep their input alone in updates."""
        return self._checkpointing.is_set_up and self.paths.allow(CHECKPOINTED)

    # --- forwards

    def hidden(self, batch: Batch) -> Tensor:
        """Hidden states [B, T, d] of whole contexts, padded on the left."""
        needed = self.checkpoints and torch.is_grad_enabled()
        with self._checkpointing.on() if needed else contextlib.nullcontext():
            if self.paths.allow(PADDED) or bool(batch.mask_BT.all()):
                return self._whole(batch)
            return self._hidden_by_length(batch)

    def _whole(self, batch: Batch) -> Tensor:
        if layers := self._layers_by_hand:
            return layers(batch, batch.positions_BT, batch.mask_BT)[0]
        return self._forward(batch.ids_BT, batch.mask_BT, batch.positions_BT, None)

    def _hidden_by_length(self, batch: Batch) -> Tensor:
        """`hidden`, with no padding in any forward: those of one length are read together."""
        width = batch.ids_BT.shape[1]
        parts: list[Tensor] = []
        groups = batch.by_length()
        for length, rows in groups:
            ids_BT = batch.ids_BT[rows, width - length :]
            hidden_BTd = self._whole(Batch(ids_BT, torch.ones_like(ids_BT)))
            parts.append(F.pad(hidden_BTd, (0, 0, width - length, 0)))
        return torch.cat(parts)[torch.cat([rows for _, rows in groups]).argsort()]

    def read(self, prompts: Batch, *, as_trained: bool = False) -> Prefix:
        """Reads P prompts, with gradient where it is enabled; `as_trained` as then, which is all of them at once."""
        groups = [] if as_trained else self.groups_of(prompts.mask_BT.sum(1).tolist())
        if len(groups) <= 1:
            return self._read_together(prompts)
        parts = [self._read_together(prompts.take(rows).without_padding_on_the_left()) for rows in groups]
        order = torch.tensor([row for rows in groups for row in rows], device=self.device).argsort()
        width = prompts.ids_BT.shape[1]

        def joined(tensors: Sequence[Tensor]) -> Tensor:
            return torch.cat([F.pad(x, (0, 0, width - x.shape[2], 0)) for x in tensors])[order]

        by_layer = zip(*(part.keys_values for part in parts), strict=True)
        keys_values = [(joined([k for k, _ in layer]), joined([v for _, v in layer])) for layer in by_layer]
        hidden_Pd = torch.cat([part.hidden_Pd for part in parts])[order]
        return Prefix(keys_values, hidden_Pd, prompts.mask_BT, prompts.mask_BT.sum(1, keepdim=True))

    def groups_of(self, lengths: Sequence[int]) -> list[list[int]]:
        """Rows to read together, as `alike` has them; all of them with a gradient, and where other processes wait."""
        if torch.is_grad_enabled() or self._sharded:
            return [list(range(len(lengths)))]
        return alike(lengths)

    def _read_together(self, prompts: Batch) -> Prefix:
        if layers := self._layers_by_hand:
            hidden_PTd, keys_values = layers(prompts, prompts.positions_BT, prompts.mask_BT)
        else:
            cache = DynamicCache()
            hidden_PTd = self._forward(prompts.ids_BT, prompts.mask_BT, prompts.positions_BT, cache)
            keys_values = [(layer.keys, layer.values) for layer in cache.layers]
        return Prefix(keys_values, hidden_PTd[:, -1], prompts.mask_BT, prompts.mask_BT.sum(1, keepdim=True))

    def extend(self, prefix: Prefix, index_B: Tensor, batch: Batch) -> Tensor:
        """Hidden states [B, T, d] of continuations (padded on the right); the i-th continues prompt index_B[i]."""
        mask_BT = torch.cat([prefix.mask_PT[index_B], batch.mask_BT], 1)
        positions_BT = prefix.length_P1[index_B] + batch.positions_BT
        if layers := self._layers_by_hand:
            return layers(batch, positions_BT, mask_BT, prefix.keys_values, index_B)[0]
        return self._forward(batch.ids_BT, mask_BT, positions_BT, shared_cache(prefix.keys_values, index_B))

    def read_apart(self, contexts: Batch) -> tuple[Tensor, Cache]:
        """Hidden state [B, d] of each context's last token, and the model's own kind of cache of all of them."""
        output = self._call(contexts.ids_BT, contexts.mask_BT, contexts.positions_BT, use_cache=True)
        return output.last_hidden_state[:, -1], output[self._cache_argument]

    def step(self, ids_B: Tensor, mask_BT: Tensor | None, position_B1: Tensor, cache: Cache) -> Tensor:
        """Hidden states [B, d] of one more token of each sequence in `cache`; the mask covers all so far."""
        return self._forward(ids_B[:, None], mask_BT, position_B1, cache)[:, -1]

    def _forward(self, ids_BT: Tensor, mask_BT: Tensor | None, positions_BT: Tensor, cache: Cache | None) -> Tensor:
        given = {} if cache is None else {str(self._cache_argument): cache}
        hidden_BTd: Tensor = self._call(
            ids_BT, mask_BT, positions_BT, use_cache=cache is not None, **given
        ).last_hidden_state
        return hidden_BTd

    def _call(self, ids_BT: Tensor, mask_BT: Tensor | None, positions_BT: Tensor, **given: Any) -> Any:
        arguments = {"attention_mask": mask_BT, "position_ids": positions_BT} | given
        known = {name: value for name, value in arguments.items() if name in self._accepted and value is not None}
        return self.decoder(input_ids=ids_BT, **known)

    # --- the reference

    @contextlib.contextmanager
    def by_plain_modules(self, role: Role = ACTOR) -> Iterator[Any]:
        """Within it, transformers' model is as its authors and PEFT's wrote it: `model(input_ids=...).logits`."""
        with self._folding.by_peft(), contextlib.nullcontext() if role == ACTOR else self.acting_as(role):
            yield self._causal_lm
