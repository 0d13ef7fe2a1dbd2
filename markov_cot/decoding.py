"""The loop that writes tokens, whatever picks them.

Shapes: P contexts, G samples of each, B = P*G sequences (context-major), T tokens so far, L new tokens, d hidden size.
A context's keys and values are computed once and shared by its G samples.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

import torch
from torch import Tensor
from transformers import Cache

from markov_cot.batches import Batch, pad_left
from markov_cot.caches import growing_cache
from markov_cot.fused_decoding import FusedSequences, decodes_fused
from markov_cot.phases import phase
from markov_cot.policy import Policy
from markov_cot.static_decoding import BUCKET, StaticDecoder, StaticSequences

Pick = Callable[[Tensor, int], Tensor]
"""(hidden_Bd, position) -> next token of each sequence."""


def decode(
    policy: Policy,
    contexts: Sequence[Sequence[int]],
    length: int,
    pick: Pick,
    samples: int = 1,
    stop: Callable[[], bool] = lambda: False,
) -> Tensor:
    """Writes up to `length` tokens after each context, `samples` times each. Returns [B, L] token ids.

    Within `Policy.acting_as`, and without gradient.
    """
    with phase("prompt"):
        sequences = _read(policy, contexts, samples, length)
    tokens: list[Tensor] = []
    with sequences.ready(), phase("decode"):
        for position in range(length):
            tokens.append(pick(sequences.hidden_Bd, position))
            if position + 1 == length or stop():
                break
            sequences.append(tokens[-1])
    return torch.stack(tokens, 1)


class _Sequences:
    """B sequences that grow by a token at a time."""

    def __init__(self, policy: Policy, hidden_Bd: Tensor, mask_BT: Tensor, room: int, cache: Cache) -> None:
        self.hidden_Bd = hidden_Bd
        """Of the last token of each, from which the next is predicted."""
        self._policy, self._cache = policy, cache
        self._end = mask_BT.shape[1]
        self._mask_BT = torch.cat([mask_BT, mask_BT.new_ones(len(mask_BT), room)], 1)
        self._position_B1 = mask_BT.sum(1, keepdim=True)

    def ready(self) -> AbstractContextManager[None]:
        """Within it, `append` may be called; entered once it is settled who is acting."""
        return self._policy.decoding()

    def append(self, token_B: Tensor) -> None:
        """Reads one more token of each."""
        self._end += 1
        self.hidden_Bd = self._policy.step(token_B, self._mask_BT[:, : self._end], self._position_B1, self._cache)
        self._position_B1 = self._position_B1 + 1


def _read(
    policy: Policy, contexts: Sequence[Sequence[int]], samples: int, room: int
) -> _Sequences | StaticSequences | FusedSequences:
    """Reads each context once for all sequences that go on from it, or once for each where that is not possible."""
    batch = pad_left(contexts, policy.pad_id, policy.device)
    index_B = torch.arange(len(contexts), device=policy.device).repeat_interleave(samples)
    mask_BT = batch.mask_BT[index_B]
    if policy.shares_prompts:
        prefix = policy.read(batch)
        if decodes_fused(policy):
            return FusedSequences(policy, prefix, samples, room)
        if policy.decodes_statically(mask_BT.shape[1] + BUCKET + room):
            return static_decoder(policy).sequences(prefix, index_B, room)
        hidden_Bd, cache = prefix.hidden_Pd[index_B], growing_cache(prefix.keys_values, index_B, room)
    else:
        hidden_Bd, cache = policy.read_apart(Batch(batch.ids_BT[index_B], mask_BT))
    return _Sequences(policy, hidden_Bd, mask_BT, room, cache)


@functools.lru_cache(maxsize=1)
def static_decoder(policy: Policy) -> StaticDecoder:
    """The graphs of the policy in use."""
    return StaticDecoder(policy)
