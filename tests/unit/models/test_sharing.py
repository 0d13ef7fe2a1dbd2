"""Prompts read once and shared by their samples, against every sequence read whole, for every family."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor

from markov_cot.data.prompts import AnswerContext
from markov_cot.models import batching
from markov_cot.models.logprobs import cot_hidden, score_answer_tokens_in_batches, score_answers
from markov_cot.models.paths import SHARED
from markov_cot.models.policy import Policy
from markov_cot.rollouts.decode import decode
from markov_cot.rollouts.sampling import sample_cots, uniforms
from tests.families import CONTEXTS, FAMILIES, LENGTH
from tests.helpers import score

TIGHT = {"rtol": 0, "atol": 1e-5}
OWNERS = [0, 1, 1, 2, 0, 2]
"""Which context each of six sequences continues from: shared ones, not in order, of different length."""


@pytest.fixture(scope="module", params=FAMILIES)
def policy(request: pytest.FixtureRequest, sizes: dict[str, Any], make_policy: Callable[..., Policy]) -> Policy:
    return make_policy(FAMILIES[request.param](sizes), temperature=0.7)


def both_ways(policy: Policy, compute: Callable[[], list[Tensor]]) -> list[tuple[Tensor, Tensor]]:
    """What `compute` gives with prompts shared and with sequences read whole."""
    assert policy.shares_prompts
    shared = compute()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(policy.paths, "ruled_out", {SHARED})
        whole = compute()
    return list(zip(shared, whole, strict=True))


def gradients(policy: Policy, value: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(value, list(policy.trainable().values())))


def test_log_probs_and_gradients_of_cots(policy: Policy) -> None:
    contexts = [CONTEXTS[i] for i in OWNERS]
    cot_BL = sample_cots(policy, contexts, uniforms(0, 0, 6, LENGTH)).cot_BL

    def compute() -> list[Tensor]:
        scores = score(policy, contexts, cot_BL)
        value = scores.logp_BL.mean() + scores.kl_BL.mean()
        found = [scores.logp_BL, scores.reference_logp_BL, scores.kl_BL, scores.entropy_BL]
        return [*(f.detach() for f in found), *gradients(policy, value)]

    for shared, whole in both_ways(policy, compute):
        assert whole.any()
        torch.testing.assert_close(shared, whole, **TIGHT)


def test_log_probs_and_gradients_of_answers(policy: Policy) -> None:
    # One prompt of three tokens for all, as in Markovian mode; CoTs and answers of different length.
    answers = [AnswerContext((1, 50, 51, *range(60, 66 + i)), tuple(range(80, 81 + i)), 3) for i in range(4)]

    def compute() -> list[Tensor]:
        reward_B = score_answers(policy, answers, "actor", "mean", grad=True)
        return [reward_B.detach(), *gradients(policy, reward_B.mean())]

    for shared, whole in both_ways(policy, compute):
        torch.testing.assert_close(shared, whole, **TIGHT)


def test_sampling_agrees_with_scoring(policy: Policy) -> None:
    rollouts = sample_cots(policy, CONTEXTS, uniforms(0, 0, 6, LENGTH))
    logp_BL = score(policy, [CONTEXTS[i // 2] for i in range(6)], rollouts.cot_BL).logp_BL
    torch.testing.assert_close(rollouts.behaviour_logp_BL, logp_BL, **TIGHT)


@torch.no_grad()
def test_in_bfloat16_sampling_is_as_near_to_scoring_as_a_cache_is_to_a_full_forward(
    sizes: dict[str, Any], make_policy: Callable[..., Policy]
) -> None:
    policy = make_policy(transformers.LlamaConfig(**sizes), dtype=torch.bfloat16)
    rollouts = sample_cots(policy, CONTEXTS, uniforms(0, 0, 24, LENGTH))
    contexts = [CONTEXTS[i // 8] for i in range(24)]
    ours = (rollouts.behaviour_logp_BL - score(policy, contexts, rollouts.cot_BL).logp_BL).abs().mean()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(policy.paths, "ruled_out", {SHARED})
        cached = []

        def pick(hidden_Bd: Tensor, position: int) -> Tensor:
            token_B = rollouts.cot_BL[:, position]
            cached.append(policy.cot_logp(hidden_Bd).gather(1, token_B[:, None]).squeeze(1))
            return token_B

        decode(policy, CONTEXTS, LENGTH, pick, samples=8)
        theirs = (torch.stack(cached, 1) - score(policy, contexts, rollouts.cot_BL).logp_BL).abs().mean()
    assert 0 < ours <= 1.25 * theirs < 0.1


# --- models that are not plain attention


@pytest.fixture(scope="module")
def recurrent(sizes: dict[str, Any], make_policy: Callable[..., Policy]) -> Policy:
    config = transformers.Lfm2Config(**sizes, layer_types=["conv", "full_attention"])
    return make_policy(config)


def test_a_recurrent_model_reads_every_sequence_whole_and_says_so(
    sizes: dict[str, Any], make_policy: Callable[..., Policy], caplog: pytest.LogCaptureFixture
) -> None:
    policy = make_policy(transformers.Lfm2Config(**sizes, layer_types=["conv", "full_attention"]))
    assert not policy.shares_prompts
    assert sum("read again for each sample" in message for message in caplog.messages) == 1


@torch.no_grad()
def test_a_recurrent_models_samples_are_those_it_scores(recurrent: Policy) -> None:
    contexts = [context[:4] for context in CONTEXTS]  # of one length: its convolutions see padding
    rollouts = sample_cots(recurrent, contexts, uniforms(0, 0, 6, LENGTH))
    logp_BL = score(recurrent, [contexts[i // 2] for i in range(6)], rollouts.cot_BL).logp_BL
    torch.testing.assert_close(rollouts.behaviour_logp_BL, logp_BL, **TIGHT)


def test_those_of_like_length_are_read_together(policy: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    contexts = [CONTEXTS[i] for i in OWNERS]
    cot_BL = sample_cots(policy, contexts, uniforms(0, 0, 6, LENGTH)).cot_BL
    prompts = [(1, *range(50, 52 + i % 3)) for i in range(5)]
    answers = [AnswerContext((*p, *range(60, 61 + 5 * i)), (80, 81), len(p)) for i, p in enumerate(prompts)]

    def compute() -> list[Tensor]:
        with torch.no_grad():
            logps = score(policy, contexts, cot_BL).logp_BL
            sampled = sample_cots(policy, contexts, uniforms(0, 0, 6, LENGTH))
        found = score_answer_tokens_in_batches(policy, answers, "actor", 10_000)
        return [logps, sampled.cot_BL, sampled.behaviour_logp_BL, found.sum_B, *found.logps]

    together = compute()
    monkeypatch.setattr(batching, "WORTH_TOKENS", 1)
    with torch.no_grad():
        assert len(policy.groups_of([len(c) for c in CONTEXTS])) > 1
    assert len(policy.groups_of([len(c) for c in CONTEXTS])) == 1, "with a gradient all are read at once"
    for apart, whole in zip(compute(), together, strict=True):
        torch.testing.assert_close(apart, whole, **TIGHT)
    with_gradient = cot_hidden(policy, contexts, cot_BL, "actor")
    with torch.no_grad():
        assert cot_hidden(policy, contexts, cot_BL, "actor", as_trained=True).equal(with_gradient)
