"""What releases of transformers and families of models call by different names, and what devices lack.

Each shim says in which release it was seen and when it can go.
"""

from __future__ import annotations

import inspect
import sys
from typing import Any

import torch
from torch import nn

CACHE_ARGUMENTS = ("cache", "past_key_values", "cache_params")
"""Names of a decoder's cache, as an argument and in what it returns.

`past_key_values` is the name up to transformers 5.23, `cache_params` Mamba's up to then; 5.24 calls both `cache`, warns
at the old names, and 5.40 will know them no more, where a decoder with `**kwargs` swallows them without a word. The old
names can go once the oldest transformers allowed is 5.24.
"""

CONTEXT_LENGTHS = ("max_position_embeddings", "n_positions", "max_seq_len", "max_sequence_length", "context_length")
"""Names of a config's longest context (MPT: `max_seq_len`, RWKV: `context_length`), seen in 5.24. Not `seq_length`: to
BLOOM it is what it was trained with, no limit. One can go when the family that uses it does.
"""
UNLIMITED = sys.maxsize


def decoder_of(causal_lm: Any) -> Any:
    """Return a model's embeddings, layers and last norm, without its head."""
    # Llama 4's model for texts alone gives, as its decoder's name, that of the model for pictures (5.24).
    return causal_lm.model if causal_lm.base_model is causal_lm else causal_lm.base_model


def cache_argument(decoder: nn.Module) -> str | None:
    """Return the name under which a decoder takes and returns its cache; None if it has none."""
    known = accepted_arguments(decoder)
    return next((name for name in CACHE_ARGUMENTS if name in known), None)


def accepted_arguments(decoder: nn.Module) -> frozenset[str]:
    """Return the arguments that a decoder's forward names. What it takes as `**kwargs`, it may well ignore."""
    return frozenset(inspect.signature(decoder.forward).parameters)


def context_length(config: Any) -> int:
    """Return the most tokens that a model may be given at once; `UNLIMITED` where its config names no limit."""
    values = (getattr(config, name, None) for name in CONTEXT_LENGTHS)
    return next((value for value in values if isinstance(value, int) and value > 0), UNLIMITED)


def has_float64(device: torch.device) -> bool:
    """Return whether a device computes in float64. Apple's (MPS) refuses such tensors, as of torch 2.13."""
    return device.type != "mps"
