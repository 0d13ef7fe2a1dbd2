"""Attention of one token of each sequence to its prompt and to the tokens decoded before it, whose cache it keeps.

Keys are kept transposed, [D, tokens]: a product with few rows is some five times as fast so on a CPU.

Shapes: P prompts, G sequences of each, B = P*G (prompt-major), H key-value heads, R query heads per key-value head,
T tokens of the padded prompts, D head size. Masks are added to scores: 0 where one may look, -inf where not.
"""

from __future__ import annotations

import torch
from torch import Tensor


class CopiedPrompts:
    """With a copy of its prompt for each sequence: the fewest operations, for short prompts."""

    def __init__(self, keys_PHTD: Tensor, values_PHTD: Tensor, samples: int, room: int) -> None:
        prompts, heads, self._length, size = keys_PHTD.shape
        self._keys_BHDT = keys_PHTD.new_empty(prompts * samples, heads, size, self._length + room)
        self._values_BHTD = values_PHTD.new_empty(prompts * samples, heads, self._length + room, size)
        self._keys_BHDT[..., : self._length] = keys_PHTD.mT.repeat_interleave(samples, 0)
        self._values_BHTD[:, :, : self._length] = values_PHTD.repeat_interleave(samples, 0)

    def attend(
        self, query_BHRD: Tensor, key_BHD: Tensor, value_BHD: Tensor, mask_B11T: Tensor | None, scaling: float
    ) -> Tensor:
        """Takes in the token's key and value. Returns softmax(q k^T scaling) v [B, H, R, D]."""
        self._keys_BHDT[..., self._length] = key_BHD
        self._values_BHTD[:, :, self._length] = value_BHD
        self._length += 1
        scores = query_BHRD * scaling @ self._keys_BHDT[..., : self._length]
        if mask_B11T is not None:
            scores += mask_B11T
        return scores.softmax(-1) @ self._values_BHTD[:, :, : self._length]


class SharedPrompts:
    """With one copy of each prompt for all that continue from it: the fewest bytes, for long prompts.

    In at least float32: what bfloat16 rounds, it rounds once, at the end.
    """

    def __init__(self, keys_PHTD: Tensor, values_PHTD: Tensor, samples: int, room: int) -> None:
        prompts, heads, self._prompt_length, size = keys_PHTD.shape
        self._wide = torch.promote_types(keys_PHTD.dtype, torch.float32)
        self._keys_PHDT = keys_PHTD.mT.to(self._wide, memory_format=torch.contiguous_format)
        self._values_PHTD = values_PHTD.to(self._wide)
        self._own_keys_BHDT = self._keys_PHDT.new_empty(prompts * samples, heads, size, room)
        self._own_values_BHTD = self._keys_PHDT.new_empty(prompts * samples, heads, room, size)
        self._length = 0

    def attend(
        self, query_BHRD: Tensor, key_BHD: Tensor, value_BHD: Tensor, mask_B11T: Tensor | None, scaling: float
    ) -> Tensor:
        """As `CopiedPrompts.attend`."""
        self._own_keys_BHDT[..., self._length] = key_BHD
        self._own_values_BHTD[:, :, self._length] = value_BHD
        self._length += 1
        query, length = query_BHRD.to(self._wide) * scaling, self._prompt_length
        of_prompt = self._by_sequence(self._by_prompt(query) @ self._keys_PHDT)
        scores = torch.cat([of_prompt, query @ self._own_keys_BHDT[..., : self._length]], -1)
        if mask_B11T is not None:
            scores += mask_B11T
        weights, total = _softmax(scores, query_BHRD.dtype)
        seen = self._by_sequence(self._by_prompt(weights[..., :length]) @ self._values_PHTD)
        seen += weights[..., length:] @ self._own_values_BHTD[:, :, : self._length]
        return seen if total is None else (seen / total).to(query_BHRD.dtype)

    def _by_prompt(self, x_BHRX: Tensor) -> Tensor:
        """[P, H, G*R, X]: all that looks at one prompt in one product."""
        batch, heads, repeats, size = x_BHRX.shape
        prompts = len(self._keys_PHDT)
        apart = x_BHRX.view(prompts, batch // prompts, heads, repeats, size).transpose(1, 2)
        return apart.reshape(prompts, heads, -1, size)

    def _by_sequence(self, x_PHMX: Tensor) -> Tensor:
        """[B, H, R, X]: `_by_prompt` undone."""
        prompts, heads, rows, size = x_PHMX.shape
        group = len(self._own_keys_BHDT) // prompts
        apart = x_PHMX.view(prompts, heads, group, rows // group, size).transpose(1, 2)
        return apart.reshape(prompts * group, heads, rows // group, size)


def _softmax(scores: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
    """Weights of the values, and what their sum is to be divided by, None for 1.

    torch's attention rounds the weights to bfloat16 before it divides, so scoring does; sampling must do alike.
    """
    if scores.dtype == dtype:
        return scores.softmax(-1), None
    weights = (scores - scores.amax(-1, keepdim=True)).exp_()
    return weights.to(dtype).to(scores.dtype), weights.sum(-1, keepdim=True)
