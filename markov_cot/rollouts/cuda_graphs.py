"""Decoding in memory of fixed shape, so that on a GPU a token's whole forward is one CUDA graph.

A graph replays the same kernels on the same addresses. So caches, masks and positions live in buffers that are kept
from one call to the next, for each number of sequences and each length rounded up to a bucket, and a token's place in
them is a tensor that the graph itself counts up.

Shapes: P prompts, B sequences, T padded prompt tokens, d hidden size.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor
from transformers import Cache
from transformers.cache_utils import CacheLayerMixin

from markov_cot.models.memory import ran_out_of_memory
from markov_cot.models.policy import Policy, Prefix

logger = logging.getLogger(__name__)

BUCKET = 64
"""Prompts' lengths are rounded up to a multiple of it."""
KEPT = 4
"""Shapes whose buffers and graphs are kept; the oldest goes first."""


class _StaticLayer(CacheLayerMixin):  # type: ignore[misc]
    """Keys and values at fixed addresses; attention sees all places, and the mask says which are in use."""

    is_sliding = False

    def __init__(self, keys: Tensor, values: Tensor, sequences: int, places: int, place_1: Tensor) -> None:
        super().__init__()
        # Their heads may differ in size, as they do in DeepSeek's.
        self.keys, self.values = (
            prompt.new_zeros(sequences, prompt.shape[1], places, prompt.shape[3]) for prompt in (keys, values)
        )
        self._place_1 = place_1
        self.is_initialized = True

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Nothing is left to do."""

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        self.keys.index_copy_(2, self._place_1, key_states)
        self.values.index_copy_(2, self._place_1, value_states)
        return self.keys, self.values

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.keys.shape[2], 0

    def get_seq_length(self) -> int:
        # The last place, so that a causal mask hides nothing that the padding mask shows.
        return self.keys.shape[2] - 1

    def get_max_length(self) -> int:
        return self.keys.shape[2]


class StaticSequences:
    """B sequences that grow by a token at a time, in buffers of their own."""

    def __init__(self, policy: Policy, prefix: Prefix, sequences: int, prompt_places: int, room: int) -> None:
        self._policy, self._prompt_places = policy, prompt_places
        device, places = policy.device, prompt_places + room
        self._ids_B = torch.zeros(sequences, dtype=torch.long, device=device)
        self._mask_BT = torch.zeros(sequences, places, dtype=torch.long, device=device)
        self._position_B1 = torch.zeros(sequences, 1, dtype=torch.long, device=device)
        self._place_1 = torch.zeros(1, dtype=torch.long, device=device)
        self.hidden_Bd = prefix.hidden_Pd.new_zeros(sequences, prefix.hidden_Pd.shape[1])
        """Of the last token of each, from which the next is predicted."""
        layers = [_StaticLayer(*pair, sequences, places, self._place_1) for pair in prefix.keys_values]
        self._layers, self._cache = layers, Cache(layers=layers)
        self._graph: Any = None
        self._forwards = 0

    def start(self, prefix: Prefix, index_B: Tensor) -> None:
        """Starts from the beginning: the i-th sequence continues prompt index_B[i]."""
        end, start = self._prompt_places, self._prompt_places - prefix.mask_PT.shape[1]
        self._mask_BT.zero_()
        self._mask_BT[:, start:end] = prefix.mask_PT[index_B]
        self._position_B1.copy_(prefix.length_P1[index_B])
        self._place_1.fill_(end)
        self.hidden_Bd.copy_(prefix.hidden_Pd[index_B])
        for layer, (keys, values) in zip(self._layers, prefix.keys_values, strict=True):
            for buffer, prompt in ((layer.keys, keys), (layer.values, values)):
                buffer.zero_()  # a NaN in a place that is masked would still spread
                buffer[:, :, start:end] = prompt[index_B]

    def ready(self) -> AbstractContextManager[None]:
        """Within it, `append` may be called; entered once it is settled who is acting."""
        return self._policy.decoding()

    def append(self, token_B: Tensor) -> None:
        """Reads one more token of each."""
        self._ids_B.copy_(token_B)
        # The first forward also lets libraries set up what a capture must not.
        if self._graph is None and self._forwards and self._policy.paths.captures:
            self._graph = self._capture()
        if self._graph is None:
            self._forward()
            self._forwards += 1
        else:
            self._graph.replay()

    def _capture(self) -> Any:
        """Return the graph of a forward; None where there can be none, and then none is tried again."""
        try:
            return capture(self._forward)
        except RuntimeError as error:
            if ran_out_of_memory(error):
                raise
            # A capture computes nothing, so the buffers are as they were.
            self._policy.paths.captures = False
            logger.warning(
                "%s: tokens are decoded without CUDA graphs, which is slower: its forward cannot be captured (%s)",
                self._policy.name,
                str(error).strip().splitlines()[0],
            )
            return None

    def _forward(self) -> None:
        self._mask_BT.index_fill_(1, self._place_1, 1)
        hidden_Bd = self._policy.step(self._ids_B, self._mask_BT, self._position_B1, self._cache)
        self.hidden_Bd.copy_(hidden_Bd)
        self._place_1.add_(1)
        self._position_B1.add_(1)


def capture(forward: Callable[[], None]) -> Any:
    """Return a CUDA graph of a forward."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        forward()
    return graph


class StaticDecoder:
    """The buffers and graphs of a policy, by shape and by who is acting."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._known: dict[tuple[int, int, int, str], StaticSequences] = {}

    def sequences(self, prefix: Prefix, index_B: Tensor, room: int) -> StaticSequences:
        """Sequences that continue from the prompts they name, with room for as many more tokens."""
        prompt_places = -(-prefix.mask_PT.shape[1] // BUCKET) * BUCKET
        key = (len(index_B), prompt_places, room, self._policy.adapter.in_use)
        if key not in self._known:
            if len(self._known) == KEPT:
                self._known.pop(next(iter(self._known)))
            self._known[key] = StaticSequences(self._policy, prefix, len(index_B), prompt_places, room)
        found = self._known[key]
        found.start(prefix, index_B)
        return found

    def clear(self) -> None:
        """Frees all buffers and graphs."""
        self._known.clear()
