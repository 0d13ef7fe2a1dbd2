"""Sequences that grow by a token at a time, through transformers' modules: with a cache, or read again as a whole.

Shapes: B sequences, T tokens of a padded context, d hidden size.
"""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch
from torch import Tensor
from transformers import Cache

from markov_cot.models.batching import Batch
from markov_cot.models.policy import Policy


class CachedSequences:
    """With a cache of all that was read."""

    def __init__(
        self, policy: Policy, hidden_Bd: Tensor, mask_BT: Tensor, room: int, cache: Cache, *, padded: bool = True
    ) -> None:
        self.hidden_Bd = hidden_Bd
        """Of the last token of each, from which the next is predicted."""
        self._policy, self._cache = policy, cache
        self._end = mask_BT.shape[1]
        # Without padding there is nothing to mask, and a mask of more than one token is beyond Mamba.
        self._mask_BT = torch.cat([mask_BT, mask_BT.new_ones(len(mask_BT), room)], 1) if padded else None
        self._position_B1 = mask_BT.sum(1, keepdim=True)

    def ready(self) -> AbstractContextManager[None]:
        """Within it, `append` may be called; entered once it is settled who is acting."""
        return self._policy.decoding()

    def append(self, token_B: Tensor) -> None:
        """Reads one more token of each."""
        self._end += 1
        mask_BT = None if self._mask_BT is None else self._mask_BT[:, : self._end]
        self.hidden_Bd = self._policy.step(token_B, mask_BT, self._position_B1, self._cache)
        self._position_B1 = self._position_B1 + 1


class EvenSequences:
    """With a cache for each length of context, where a model's own cache does not bear padding."""

    def __init__(self, policy: Policy, contexts: Batch, room: int) -> None:
        self._policy = policy
        groups = contexts.by_length()
        self._rows = [rows for _, rows in groups]
        self._order = torch.cat(self._rows).argsort()
        self._parts: list[CachedSequences] = []
        for length, rows in groups:
            ids_BT = contexts.ids_BT[rows, contexts.ids_BT.shape[1] - length :]
            mask_BT = torch.ones_like(ids_BT)
            hidden_Bd, cache = policy.read_apart(Batch(ids_BT, mask_BT))
            self._parts.append(CachedSequences(policy, hidden_Bd, mask_BT, room, cache, padded=False))

    @property
    def hidden_Bd(self) -> Tensor:
        """Of the last token of each, from which the next is predicted."""
        return torch.cat([part.hidden_Bd for part in self._parts])[self._order]

    def ready(self) -> AbstractContextManager[None]:
        """As `CachedSequences.ready`."""
        return self._policy.decoding()

    def append(self, token_B: Tensor) -> None:
        """Reads one more token of each."""
        for rows, part in zip(self._rows, self._parts, strict=True):
            part.append(token_B[rows])


class WholeSequences:
    """Without a cache. Right for every causal model, as scoring is, and slow.

    Sequences have their final length from the start, as when they are scored: some models encode positions by how many
    there are. What stands in the places of tokens yet to come, none of those before them sees.
    """

    def __init__(self, policy: Policy, contexts: Batch, room: int) -> None:
        self._policy = policy
        to_come_BT = contexts.mask_BT.new_ones(len(contexts.mask_BT), room)
        ids_BT = torch.cat([contexts.ids_BT, to_come_BT * policy.pad_id], 1)
        self._batch = Batch(ids_BT, torch.cat([contexts.mask_BT, to_come_BT], 1))
        self._end = contexts.ids_BT.shape[1]
        self.hidden_Bd = self._read()
        """Of the last token of each, from which the next is predicted."""

    def ready(self) -> AbstractContextManager[None]:
        """As `CachedSequences.ready`."""
        return self._policy.decoding()

    def append(self, token_B: Tensor) -> None:
        """Reads one more token of each."""
        self._batch.ids_BT[:, self._end] = token_B
        self._end += 1
        self.hidden_Bd = self._read()

    def _read(self) -> Tensor:
        return self._policy.hidden(self._batch)[:, self._end - 1]
