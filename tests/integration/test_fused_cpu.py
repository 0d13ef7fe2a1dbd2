"""Decoding in few operations, against decoding through transformers' modules."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from markov_cot.config.schema import Lora
from markov_cot.models import plain_layers
from markov_cot.models.paths import BY_HAND, FUSED
from markov_cot.models.policy import Policy
from markov_cot.rollouts import decode as decoding
from markov_cot.rollouts.attention import SharedPrompts
from markov_cot.rollouts.fused_cpu import decodes_fused
from markov_cot.rollouts.sampling import greedy_answers, greedy_cots, sample_cots, uniforms
from tests.families import CONTEXTS, FAMILIES, LENGTH, norm_in_float64

JOINED = ("llama", "llama-tied", "qwen2", "qwen3", "mistral", "llama3-rotations", "biases")
CONFIGS: dict[str, Callable[[dict[str, Any]], Any]] = {
    **FAMILIES,
    "llama3-rotations": lambda s: transformers.LlamaConfig(
        **s,
        rope_parameters={
            "rope_type": "llama3",
            "rope_theta": 10000.0,
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 16,
        },
    ),
    "dynamic-rotations": lambda s: transformers.LlamaConfig(
        **s, rope_parameters={"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 2.0}
    ),
    "biases": lambda s: transformers.LlamaConfig(**s, attention_bias=True, mlp_bias=True),
}


@contextmanager
def through_modules() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decoding, "decodes_fused", lambda _: False)
        yield


@pytest.mark.parametrize("family", JOINED)
@torch.no_grad()
def test_it_writes_what_the_modules_write(
    family: str, sizes: dict[str, Any], make_policy: Callable[..., Policy]
) -> None:
    policy = make_policy(CONFIGS[family](sizes), temperature=0.7)
    assert decodes_fused(policy)
    for contexts in (CONTEXTS, CONTEXTS[:1]):  # with padding and without
        u = uniforms(0, 0, 2 * len(contexts), LENGTH)
        found = sample_cots(policy, contexts, u), sample_cots(policy, contexts, u, "critic")
        greedy = [greedy_cots(policy, contexts, LENGTH, role) for role in ("actor", "critic")]
        with through_modules():
            expected = sample_cots(policy, contexts, u), sample_cots(policy, contexts, u, "critic")
            wanted = [greedy_cots(policy, contexts, LENGTH, role) for role in ("actor", "critic")]
        for ours, theirs in zip(found, expected, strict=True):
            assert torch.equal(ours.cot_BL, theirs.cot_BL)
            torch.testing.assert_close(ours.behaviour_logp_BL, theirs.behaviour_logp_BL, rtol=0, atol=1e-5)
        assert not torch.allclose(found[0].behaviour_logp_BL, found[1].behaviour_logp_BL), "the adapter is at work"
        assert all(map(torch.equal, greedy, wanted))


@torch.no_grad()
def test_in_float64_it_is_exact(make_policy: Callable[..., Policy], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain_layers, "DTYPES", (torch.float64,))
    monkeypatch.setattr(LlamaRMSNorm, "forward", norm_in_float64)
    policy = make_policy(dtype=torch.float64)
    u = uniforms(0, 0, 6, LENGTH)
    with policy.acting_as("actor"):
        assert decoding.decoder_in_use(policy, 30) == FUSED
    found = sample_cots(policy, CONTEXTS, u)
    policy.paths.ruled_out.add(BY_HAND)
    with through_modules():
        expected = sample_cots(policy, CONTEXTS, u)
    assert found.behaviour_logp_BL.dtype == torch.float64
    torch.testing.assert_close(found.behaviour_logp_BL, expected.behaviour_logp_BL, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "targets", [["q_proj"], ["v_proj", "up_proj"], ["down_proj", "k_proj", "o_proj"]], ids="+".join
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["folded", "beside the weight"])
@torch.no_grad()
def test_layers_with_and_without_an_adapter_are_joined(
    targets: list[str], dtype: torch.dtype, make_policy: Callable[..., Policy]
) -> None:
    policy = make_policy(dtype=dtype, lora=Lora(target_modules=targets))
    assert decodes_fused(policy)
    forced_BL = sample_cots(policy, CONTEXTS, uniforms(0, 0, 3, LENGTH)).cot_BL

    def logps() -> Tensor:
        collected: list[Tensor] = []

        def pick(hidden_Bd: Tensor, position: int) -> Tensor:
            collected.append(policy.cot_logp(hidden_Bd))
            return forced_BL[:, position]

        with policy.acting_as("actor"):
            decoding.decode(policy, CONTEXTS, LENGTH, pick)
        return torch.stack(collected)

    found = logps()
    with through_modules():
        expected = logps()
    tolerance = 1e-5 if dtype == torch.float32 else 0.1
    usual = expected > -20  # the rest is banned
    torch.testing.assert_close(found[usual], expected[usual], rtol=0, atol=tolerance)


def test_answers_are_the_same_text(make_policy: Callable[..., Policy]) -> None:
    policy = make_policy()
    found = [greedy_answers(policy, CONTEXTS, role) for role in ("actor", "critic")]
    with through_modules():
        assert found == [greedy_answers(policy, CONTEXTS, role) for role in ("actor", "critic")]


@pytest.mark.parametrize("family", ["mistral-window", "gemma", "gemma2", "gemma3", "phi3", "gpt2", "dynamic-rotations"])
@torch.no_grad()
def test_what_has_another_form_goes_through_the_modules(
    family: str, sizes: dict[str, Any], make_policy: Callable[..., Policy]
) -> None:
    assert not decodes_fused(make_policy(CONFIGS[family](sizes)))


@torch.no_grad()
def test_a_model_that_computes_something_else_goes_through_the_modules(
    make_policy: Callable[..., Policy], monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = make_policy()
    policy.paths.ruled_out.add(BY_HAND)
    for layer in policy.decoder.layers:
        monkeypatch.setattr(layer.mlp, "forward", lambda x: 2 * x)
    with policy.acting_as("actor"):
        assert decoding.decoder_in_use(policy, 30) != FUSED


def test_attention_by_hand() -> None:
    # One prompt of two tokens, two samples, one key head with two query heads, head size 1, room for one token.
    keys, values = torch.tensor([[[[0.0], [5.0]]]]), torch.tensor([[[[1.0], [7.0]]]])
    attention = SharedPrompts(keys, values, 2, 1)
    query = torch.tensor([[[[0.0], [1.0]]], [[[0.0], [1.0]]]])
    own_keys, own_values = torch.tensor([[[3.0]], [[0.0]]]), torch.tensor([[[4.0]], [[3.0]]])
    mask = torch.tensor([[0.0, -torch.inf]])
    seen = attention.attend(query / 2, own_keys, own_values, mask, 2.0)
    # Of prompt and own token the prompt's second is masked. First sample: scores (0, 0) -> (1 + 4) / 2 = 2.5 and
    # (0, 3) -> (1 + 4 e^3) / (1 + e^3) = 3.857722. Second: (0, 0) both times -> (1 + 3) / 2 = 2.
    expected = torch.tensor([[[[2.5], [3.857722]]], [[[2.0], [2.0]]]])
    torch.testing.assert_close(seen, expected, rtol=0, atol=1e-6)
