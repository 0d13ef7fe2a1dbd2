"""Attention of one token of each sequence to its prompt and to the tokens decoded before it, whose cache it keeps.

There is one copy of a prompt's keys and values for all that continue from it. All stands in the order prompt, head,
sample, so that what looks at one prompt is one product, and nothing is moved between that and a sequence's own tokens.
Keys are kept transposed, [D, tokens]: a product with few rows is some five times as fast so on a CPU.

Shapes: P prompts, G sequences of each, B = P*G (prompt-major), H key-value heads, R query heads per key-value head,
T tokens of the padded prompts, D head size.
"""

from __future__ import annotations

import torch
from torch import Tensor


class SharedPrompts:
    """In at least float32: what bfloat16 rounds, it rounds once, at the end."""

    def __init__(self, keys_PHTD: Tensor, values_PHTD: Tensor, samples: int, room: int) -> None:
        prompts, heads, self._prompt_length, size = keys_PHTD.shape
        wide = torch.promote_types(keys_PHTD.dtype, torch.float32)
        self._order = (prompts, samples, heads)
        self._keys = keys_PHTD.mT.to(wide, memory_format=torch.contiguous_format).flatten(0, 1)
        self._values = values_PHTD.to(wide).flatten(0, 1)
        self._own_keys = self._keys.new_empty(prompts, heads, samples, size, room)
        self._own_values = self._keys.new_empty(prompts, heads, samples, room, size)
        self._length = 0

    def attend(
        self, query_BHRD: Tensor, key_BHD: Tensor, value_BHD: Tensor, mask_PT: Tensor | None, scaling: float
    ) -> Tensor:
        """Takes in the token's key and value. Returns softmax(q k^T scaling) v [B, H, R, D].

        The mask is of the prompts' tokens, and added to scores.
        """
        prompts, samples, heads = self._order
        repeats, size = query_BHRD.shape[2:]
        self._own_keys[..., self._length] = self._by_head(key_BHD)
        self._own_values[..., self._length, :] = self._by_head(value_BHD)
        self._length += 1
        rows, length = prompts * heads * samples, self._prompt_length
        queries = self._keys.new_empty(prompts, heads, samples, repeats, size).copy_(self._by_head(query_BHRD))
        queries.mul_(scaling)
        of_prompt = torch.bmm(queries.view(prompts * heads, -1, size), self._keys)
        if mask_PT is not None:
            of_prompt.view(prompts, -1, length).add_(mask_PT[:, None])
        of_own = torch.bmm(queries.view(rows, repeats, size), self._own_keys.flatten(0, 2)[..., : self._length])
        weights = torch.cat([of_prompt.view(rows, repeats, length), of_own], -1).softmax(-1)
        seen = torch.bmm(weights.view(prompts * heads, samples * repeats, -1)[..., :length], self._values)
        own_values = self._own_values.flatten(0, 2)[:, : self._length]
        seen = torch.baddbmm(seen.view(rows, repeats, size), weights[..., length:], own_values)
        found = torch.empty_like(query_BHRD, memory_format=torch.contiguous_format)
        self._by_head(found).copy_(seen.view(prompts, heads, samples, repeats, size))
        return found

    def _by_head(self, x_BHX: Tensor) -> Tensor:
        """[P, H, G, ...], a view."""
        return x_BHX.view(*self._order, *x_BHX.shape[2:]).transpose(1, 2)
