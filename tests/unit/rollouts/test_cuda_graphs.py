"""Decoding at fixed addresses, run without a graph: on a GPU the same calls are captured and replayed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers

from markov_cot.models.batching import pad_left
from markov_cot.models.policy import Policy
from markov_cot.rollouts import decode as decoding
from markov_cot.rollouts.cuda_graphs import BUCKET, KEPT, StaticDecoder
from markov_cot.rollouts.sampling import greedy_cots, sample_cots, uniforms
from tests.families import CONTEXTS, FAMILIES, LENGTH

PLAIN = sorted(set(FAMILIES) - {"mistral-window", "gemma2", "gemma3"})


@pytest.mark.parametrize("family", PLAIN)
def test_it_writes_what_decoding_writes(
    family: str, sizes: dict[str, Any], make_policy: Callable[..., Policy], monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = make_policy(FAMILIES[family](sizes))
    runs = [uniforms(0, step, 6, LENGTH) for step in range(2)]
    expected = [sample_cots(policy, CONTEXTS, u) for u in runs]
    greedy = [greedy_cots(policy, CONTEXTS, LENGTH, role) for role in ("actor", "critic")]
    monkeypatch.setattr(policy, "decodes_statically", lambda _: True)
    monkeypatch.setattr(decoding, "decodes_fused", lambda _: False)
    decoding.static_decoder.cache_clear()
    # The second use of the same buffers must find nothing of the first in them.
    for u, wanted in zip(runs, expected, strict=True):
        found = sample_cots(policy, CONTEXTS, u)
        assert torch.equal(found.cot_BL, wanted.cot_BL)
        torch.testing.assert_close(found.behaviour_logp_BL, wanted.behaviour_logp_BL, rtol=0, atol=1e-5)
    for role, wanted_BL in zip(("actor", "critic"), greedy, strict=True):
        assert torch.equal(greedy_cots(policy, CONTEXTS, LENGTH, role), wanted_BL)


@torch.no_grad()
def test_buffers_are_kept_by_bucket_and_not_for_ever(make_policy: Callable[..., Policy]) -> None:
    policy = make_policy()
    decoder = StaticDecoder(policy)

    def sequences(length: int, batch: int = 1, room: int = 3) -> Any:
        prefix = policy.read(pad_left([[1, *range(40, 39 + length)]], policy.pad_id, policy.device))
        return decoder.sequences(prefix, torch.zeros(batch, dtype=torch.long), room)

    first = sequences(5)
    assert sequences(BUCKET) is first and sequences(BUCKET + 1) is not first
    with policy.acting_as("critic"):
        assert sequences(5) is not first
    assert sequences(5, batch=2) is not first
    for room in range(4, 4 + KEPT):
        sequences(5, room=room)
    assert sequences(5) is not first


def test_only_on_a_gpu_and_never_with_a_window_that_is_too_short(
    sizes: dict[str, Any], make_policy: Callable[..., Policy], monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = make_policy(transformers.MistralConfig(**sizes, sliding_window=100), dtype=torch.bfloat16)
    assert not policy.decodes_statically(10)
    monkeypatch.setattr(policy, "device", torch.device("cuda"))
    assert policy.decodes_statically(100) and not policy.decodes_statically(101)
