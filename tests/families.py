"""Small configs of the families that tests run through, and contexts for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import transformers
from torch import Tensor

CONTEXTS = [[1, 40, 41, 42], [1, *range(50, 70)], [1, *range(100, 111)]]
LENGTH = 12
WINDOW = 8
"""Shorter than the contexts and than the CoTs."""


def gpt2(sizes: dict[str, Any]) -> Any:
    """GPT-2 has other names for its sizes."""
    return transformers.GPT2Config(vocab_size=sizes["vocab_size"], n_embd=32, n_layer=2, n_head=4, n_positions=512)


FAMILIES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "llama": lambda s: transformers.LlamaConfig(**s),
    "llama-tied": lambda s: transformers.LlamaConfig(**s, tie_word_embeddings=True),
    "qwen2": lambda s: transformers.Qwen2Config(**s),
    "qwen3": lambda s: transformers.Qwen3Config(**s, head_dim=8),
    "mistral": lambda s: transformers.MistralConfig(**s, sliding_window=None),
    "mistral-window": lambda s: transformers.MistralConfig(**s, sliding_window=WINDOW),
    "gemma": lambda s: transformers.GemmaConfig(**s, head_dim=8),
    "gemma2": lambda s: transformers.Gemma2Config(**s, head_dim=8, sliding_window=WINDOW),
    "gemma3": lambda s: transformers.Gemma3TextConfig(**s, head_dim=8, sliding_window=WINDOW),
    "phi3": lambda s: transformers.Phi3Config(**s),
    "gpt2": gpt2,
}


def norm_in_float64(self: Any, hidden: Tensor) -> Tensor:
    """For `LlamaRMSNorm.forward`, which computes in float32 whatever its dtype."""
    wide = hidden.double()
    return self.weight * wide * (wide.square().mean(-1, keepdim=True) + self.variance_epsilon).rsqrt()
