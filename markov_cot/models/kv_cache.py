"""Keys and values of prompts, computed once and shared by all sequences that continue from them.

Shapes: P prompts, B sequences, H key-value heads, T tokens of the padded prompts, D head size.
All kinds keep every token, so a layer with a sliding window gets its window from the mask, not from the cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import Cache
from transformers.cache_utils import CacheLayerMixin, DynamicLayer

KeysValues = Sequence[tuple[Tensor, Tensor]]
"""Keys and values [P, H, T, D] of every layer."""


class _SharedLayer(CacheLayerMixin):  # type: ignore[misc]
    """A prompt's keys and values for one forward of its continuations; differentiable, and never written to."""

    is_sliding = False

    def __init__(self, keys: Tensor, values: Tensor, index_B: Tensor) -> None:
        super().__init__()
        self.keys, self.values, self._index_B = keys, values, index_B
        self.is_initialized = True

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Nothing is left to do."""

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        return self._join(self.keys, key_states), self._join(self.values, value_states)

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.get_seq_length() + query_length, 0

    def get_seq_length(self) -> int:
        return self.keys.shape[-2]

    def get_max_length(self) -> int:
        return -1

    def _join(self, prompt: Tensor, new: Tensor) -> Tensor:
        # A single prompt is expanded, which copies nothing before the concatenation does.
        wide = prompt.expand(len(new), -1, -1, -1) if len(prompt) == 1 else prompt.index_select(0, self._index_B)
        return torch.cat([wide, new], dim=-2)


class _GrowingLayer(DynamicLayer):  # type: ignore[misc]
    """A prompt's keys and values, then those of each token decoded after it, in memory laid out once."""

    def __init__(self, keys: Tensor, values: Tensor, index_B: Tensor, room: int) -> None:
        super().__init__()
        self.dtype, self.device = keys.dtype, keys.device
        self._length = keys.shape[-2]
        self._buffers = [self._lay_out(prompt, index_B, room) for prompt in (keys, values)]
        self.is_initialized = True
        self._show()

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        end = self._length + key_states.shape[-2]
        for buffer, new in zip(self._buffers, (key_states, value_states), strict=True):
            buffer[:, :, self._length : end] = new
        self._length = end
        return self._show()

    def _show(self) -> tuple[Tensor, Tensor]:
        keys, values = (buffer[:, :, : self._length] for buffer in self._buffers)
        self.keys, self.values = keys, values
        return keys, values

    def _lay_out(self, prompt: Tensor, index_B: Tensor, room: int) -> Tensor:
        _, heads, length, size = prompt.shape
        buffer = prompt.new_empty(len(index_B), heads, length + room, size)
        buffer[:, :, :length] = prompt.index_select(0, index_B)
        return buffer


def shared_cache(prompts: KeysValues, index_B: Tensor) -> Cache:
    """For one forward of B sequences, the i-th of which continues from prompt index_B[i]. Carries gradient."""
    return Cache(layers=[_SharedLayer(keys, values, index_B) for keys, values in prompts])


def growing_cache(prompts: KeysValues, index_B: Tensor, room: int) -> Cache:
    """For decoding up to `room` more tokens of B sequences, the i-th of which continues from prompt index_B[i]."""
    return Cache(layers=[_GrowingLayer(keys, values, index_B, room) for keys, values in prompts])
