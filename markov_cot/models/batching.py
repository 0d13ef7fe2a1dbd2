"""Token sequences of different lengths as one padded batch: contexts on the left, continuations on the right.

Shapes: B sequences, T tokens of the longest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

PADDING = 0.2
"""Most of what is read together that is padding..."""
WORTH_TOKENS = 512
"""...where as many tokens are: a forward of fewer takes hardly less time."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Padded contexts, or continuations."""

    ids_BT: Tensor
    mask_BT: Tensor
    """1 on real tokens, 0 on padding."""

    @property
    def positions_BT(self) -> Tensor:
        """Position of each real token in its own context, from 0."""
        return (self.mask_BT.cumsum(1) - 1).clamp(min=0)

    def take(self, index_B: Tensor | Sequence[int]) -> Batch:
        """Return the rows that are named, as often as they are."""
        return Batch(self.ids_BT[index_B], self.mask_BT[index_B])

    def by_length(self) -> list[tuple[int, Tensor]]:
        """Each number of real tokens, and which rows have it."""
        length_B = self.mask_BT.sum(1)
        return [(n, (length_B == n).nonzero().flatten()) for n in sorted(set(length_B.tolist()))]

    def without_padding_on_the_left(self) -> Batch:
        """Return it as wide as its longest context."""
        width = int(self.mask_BT.sum(1).max())
        return Batch(self.ids_BT[:, -width:], self.mask_BT[:, -width:])


def pad_left(contexts: Sequence[Sequence[int]], pad_id: int, device: torch.device) -> Batch:
    """Contexts of different lengths as one batch, padded on the left to the longest."""
    width = max(map(len, contexts))
    return _batch(contexts, [width - len(context) for context in contexts], width, pad_id, device)


def pad_right(continuations: Sequence[Sequence[int]], pad_id: int, device: torch.device) -> Batch:
    """Continuations of different lengths as one batch. They must follow their prompts without a gap.

    A sliding window counts places, not positions, so padding in between would use it up.
    """
    width = max(map(len, continuations))
    return _batch(continuations, [0] * len(continuations), width, pad_id, device)


def _batch(
    rows: Sequence[Sequence[int]], starts: Sequence[int], width: int, pad_id: int, device: torch.device
) -> Batch:
    ids_BT = torch.full((len(rows), width), pad_id)
    mask_BT = torch.zeros((len(rows), width), dtype=torch.long)
    for i, (row, start) in enumerate(zip(rows, starts, strict=True)):
        ids_BT[i, start : start + len(row)] = torch.tensor(row)
        mask_BT[i, start : start + len(row)] = 1
    return Batch(ids_BT.to(device), mask_BT.to(device))


def alike(lengths: Sequence[int]) -> list[list[int]]:
    """Groups of rows, as few as leave less than `PADDING` of each group that is worth a forward to padding."""
    groups: list[list[int]] = []
    taken = 0
    for i in sorted(range(len(lengths)), key=lambda i: (lengths[i], i)):
        padded = (len(groups[-1]) + 1) * lengths[i] if groups else 0
        if not groups or (padded - taken - lengths[i] > PADDING * padded and taken >= WORTH_TOKENS):
            groups.append([])
            taken = 0
        groups[-1].append(i)
        taken += lengths[i]
    return [sorted(group) for group in groups]
