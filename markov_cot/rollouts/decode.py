"""The loop that writes tokens, whatever picks them, and the choice of how they are written.

Shapes: P contexts, G samples of each, B = P*G sequences (context-major), T tokens so far, L new tokens, d hidden size.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from markov_cot.models.agreement import Expected, fault_of, usual_ids
from markov_cot.models.batching import Batch, pad_left
from markov_cot.models.kv_cache import growing_cache
from markov_cot.models.paths import DECODERS, EVEN_CACHE, FUSED, OWN_CACHE, SHARED_CACHE, STATIC, WHOLE
from markov_cot.models.policy import Policy
from markov_cot.rollouts.cuda_graphs import BUCKET, StaticDecoder
from markov_cot.rollouts.fused_cpu import FusedSequences, decodes_fused
from markov_cot.rollouts.plain import CachedSequences, EvenSequences, WholeSequences
from markov_cot.utils.plugins import Registry
from markov_cot.utils.profiling import profile_span

AUTO, PLAIN = "auto", "plain"
Pick = Callable[[Tensor, int], Tensor]
"""(hidden_Bd, position) -> next token of each sequence."""
TRIED_CONTEXTS = ((1, 2, 3, 4, 5), (3, 2))
TRIED_TOKENS = 4


@runtime_checkable
class Sequences(Protocol):
    """B sequences that grow by a token at a time."""

    @property
    def hidden_Bd(self) -> Tensor:
        """Of the last token of each, from which the next is predicted."""

    def ready(self) -> AbstractContextManager[None]:
        """Within it, `append` may be called; entered once it is settled who is acting."""

    def append(self, token_B: Tensor) -> None:
        """Reads one more token of each."""


@runtime_checkable
class Decoder(Protocol):
    """A way of writing tokens."""

    def fits(self, policy: Policy, places: int) -> bool:
        """Whether it is made for such a model, and for so many tokens in all."""

    def start(self, policy: Policy, contexts: Batch, samples: int, room: int) -> Sequences:
        """Reads the contexts, for `samples` sequences of each with room for `room` more tokens."""


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
    places = max(map(len, contexts)) + length
    return _decode(decoder_in_use(policy, places), policy, contexts, length, pick, samples, stop)


def _decode(
    decoder: str,
    policy: Policy,
    contexts: Sequence[Sequence[int]],
    length: int,
    pick: Pick,
    samples: int = 1,
    stop: Callable[[], bool] = lambda: False,
) -> Tensor:
    with profile_span("prompt"):
        batch = pad_left(contexts, policy.pad_id, policy.device)
        sequences = REGISTRY.resolve(decoder).start(policy, batch, samples, length)
    tokens: list[Tensor] = []
    with sequences.ready(), profile_span("decode"):
        for position in range(length):
            tokens.append(pick(sequences.hidden_Bd, position))
            if position + 1 == length or stop():
                break
            sequences.append(tokens[-1])
    return torch.stack(tokens, 1)


def decoder_in_use(policy: Policy, places: int) -> str:
    """Return the fastest decoder that fits and computes what whole sequences give, tried on its first use."""
    return settle_decoder(policy, places, lambda name: name in policy.paths.tried or _is_right(policy, name))


def settle_decoder(policy: Policy, places: int, right: Callable[[str], bool]) -> str:
    """Return the fastest decoder that fits and is `right`. Those that are not are ruled out."""
    faults: dict[str, str] = {}
    for name in _candidates(policy):
        if not policy.paths.allow(name) or not REGISTRY.resolve(name).fits(policy, places):
            continue
        if name == WHOLE or not (fault := fault_of(functools.partial(right, name))):
            break
        faults[name] = fault
    policy.paths.tried.add(name)
    if faults:
        policy.rule_out(*faults, reason=f"otherwise {policy.name} {list(faults.values())[-1]}")
    return name


def _candidates(policy: Policy) -> tuple[str, ...]:
    """The decoders that the config allows, fastest first. The user's own comes first, and is tried like the others."""
    chosen = policy.paths.decoder
    if chosen == PLAIN:
        return (WHOLE,)
    return DECODERS if chosen == AUTO else (chosen, *DECODERS)


def _is_right(policy: Policy, decoder: str) -> bool:
    contexts = [usual_ids(policy.vocabulary, context) for context in TRIED_CONTEXTS]
    forced = usual_ids(policy.vocabulary, range(2 * TRIED_TOKENS))
    forced_BL = torch.tensor(forced, device=policy.device).view(2, TRIED_TOKENS)
    rows = [[*context, *forced] for context, forced in zip(contexts, forced_BL.tolist(), strict=True)]
    batch = pad_left(rows, policy.pad_id, policy.device)
    right = Expected.of(policy.embeddings, lambda: [policy.hidden(batch)[:, -TRIED_TOKENS - 1 : -1]])
    if not right.values[0].isfinite().all():
        return True  # what is not a number says nothing of the decoder, and is noticed in the loss
    return right.agrees([hidden_of(decoder, policy, contexts, forced_BL)])


def hidden_of(decoder: str, policy: Policy, contexts: Sequence[Sequence[int]], forced_BL: Tensor) -> Tensor:
    """Return the hidden states [B, L, d] that predict each of the tokens, which are written instead of sampled ones."""
    states: list[Tensor] = []

    def pick(hidden_Bd: Tensor, position: int) -> Tensor:
        states.append(hidden_Bd.clone())
        return forced_BL[:, position]

    _decode(decoder, policy, contexts, forced_BL.shape[1], pick)
    return torch.stack(states, 1)


@functools.lru_cache(maxsize=1)
def static_decoder(policy: Policy) -> StaticDecoder:
    """The graphs of the policy in use."""
    return StaticDecoder(policy)


def release(policy: Policy) -> None:
    """Frees what is kept from one call to the next."""
    static_decoder(policy).clear()
    for joined in policy.plain_layers.joined if policy.plain_layers else ():
        joined.release()


# --- the decoders, fastest first


class _Fused:
    """In few operations, for families whose layers are of one plain form."""

    def fits(self, policy: Policy, places: int) -> bool:
        return decodes_fused(policy)

    def start(self, policy: Policy, contexts: Batch, samples: int, room: int) -> FusedSequences:
        return FusedSequences(policy, policy.read(contexts), samples, room)


class _Static:
    """As a CUDA graph."""

    def fits(self, policy: Policy, places: int) -> bool:
        return policy.decodes_statically(places + BUCKET)

    def start(self, policy: Policy, contexts: Batch, samples: int, room: int) -> Sequences:
        return static_decoder(policy).sequences(policy.read(contexts), _index(contexts, samples), room)


class _SharedCache:
    """With each context read once, and its keys and values copied for its samples."""

    def fits(self, policy: Policy, places: int) -> bool:
        return policy.shares_prompts

    def start(self, policy: Policy, contexts: Batch, samples: int, room: int) -> CachedSequences:
        prefix, index_B = policy.read(contexts), _index(contexts, samples)
        cache = growing_cache(prefix.keys_values, index_B, room)
        return CachedSequences(policy, prefix.hidden_Pd[index_B], contexts.mask_BT[index_B], room, cache)


class _OwnCache:
    """With the model's own cache of every sequence."""

    def fits(self, policy: Policy, places: int) -> bool:
        return True

    def start(self, policy: Policy, contexts: Batch, samples: int, room: int) -> CachedSequences:
        batch = contexts.take(_index(contexts, samples))
        hidden_Bd, cache = policy.read_apart(batch)
        return CachedSequences(policy, hidden_Bd, batch.mask_BT, room, cache)


class _EvenCache:
    """The same, apart for each length, so that nothing is padded."""

    def fits(self, policy: Policy, places: int) -> bool:
        return True

    def start(self, policy: Policy, contexts: Batch, samples: int, room: int) -> EvenSequences:
        return EvenSequences(policy, contexts.take(_index(contexts, samples)), room)


class _Whole:
    """With every sequence read again for each token."""

    def fits(self, policy: Policy, places: int) -> bool:
        return True

    def start(self, policy: Policy, contexts: Batch, samples: int, room: int) -> WholeSequences:
        return WholeSequences(policy, contexts.take(_index(contexts, samples)), room)


REGISTRY: Registry[Decoder] = Registry(
    "decoder",
    {
        FUSED: _Fused(),
        STATIC: _Static(),
        SHARED_CACHE: _SharedCache(),
        OWN_CACHE: _OwnCache(),
        EVEN_CACHE: _EvenCache(),
        WHOLE: _Whole(),
    },
)


def _index(contexts: Batch, samples: int) -> Tensor:
    return torch.arange(len(contexts.ids_BT), device=contexts.ids_BT.device).repeat_interleave(samples)
