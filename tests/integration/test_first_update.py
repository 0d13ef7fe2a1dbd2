"""The first update's ratio is 1 in every dtype, and what sampling rounds otherwise goes into a weight."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from transformers import LlamaConfig

from markov_cot.algorithms.advantages import group_advantages
from markov_cot.algorithms.losses import ROUNDING, Counts, Weights, importance_weight, loss_terms, policy_gradient, ppo
from markov_cot.algorithms.types import Advantages, CotScores
from markov_cot.config.loading import build_config
from markov_cot.config.schema import Lora
from markov_cot.data.prompts import AnswerContext
from markov_cot.models import memory
from markov_cot.models.logprobs import cot_hidden
from markov_cot.models.memory import UPDATE, TokenBudgets
from markov_cot.models.policy import Policy
from markov_cot.rewards.answer_logprob import Rewards
from markov_cot.rollouts.sampling import sample_cots, uniforms
from markov_cot.tracking.metrics import sampler_metrics
from markov_cot.training.collector import Experience
from markov_cot.training.updater import Updater
from markov_cot.utils.errors import UserError
from tests.helpers import score

CONTEXTS = [[1, 40, 41, 42, 43, 44, 45], [1, 50, 51], [1, 60, 61, 62, 63]]
SAMPLES, LENGTH = 4, 6
PLAIN = Weights(kl=0.1, actor_reward=0.0)


def tensor(values: Any) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


# --- the weight and the losses by hand


def test_the_weight_by_hand() -> None:
    trainer, sampler = tensor([[0.5, 0.3, 0.2, 0.7]]).log(), tensor([[0.4, 0.1, 0.25, 0.7]]).log()
    # 0.5 / 0.4, 0.3 / 0.1 = 3 cut to 2, 0.2 / 0.25, 0.7 / 0.7
    assert importance_weight(trainer, sampler, 2.0)[0].tolist() == pytest.approx([1.25, 2.0, 0.8, 1.0], abs=1e-15)
    assert importance_weight(trainer, sampler, 4.0)[0, 1].item() == pytest.approx(3.0)
    assert importance_weight(trainer, sampler, 1.0)[0].tolist() == pytest.approx([1.0, 1.0, 0.8, 1.0])


def test_rounding_weighs_nothing_and_a_nan_stays_one() -> None:
    trainer = tensor([[-1.0, -1.0, -1.0, math.nan, -1.0]])
    sampler = tensor([[-1.0 - 0.9 * ROUNDING, -1.0 + 0.9 * ROUNDING, -1.0 - 2 * ROUNDING, -1.0, -500.0]])
    weight = importance_weight(trainer, sampler, 2.0)[0].tolist()
    assert weight[:2] == [1.0, 1.0] and weight[2] == pytest.approx(math.exp(2 * ROUNDING), abs=1e-12)
    assert math.isnan(weight[3]) and weight[4] == 2.0


log_probs = st.lists(st.floats(-60, 0), min_size=5, max_size=5)


@given(log_probs, log_probs, st.floats(1, 50))
def test_the_weight_is_positive_and_at_most_the_cap(trainer: list[float], sampler: list[float], cap: float) -> None:
    old = tensor([trainer]).requires_grad_()
    weight = importance_weight(old, tensor([sampler]), cap)
    assert (weight > 0).all() and (weight <= cap).all() and not weight.requires_grad
    assert (importance_weight(old, old.detach(), cap) == 1).all()


def test_policy_gradient_with_weights_by_hand() -> None:
    logp = tensor([[-1.0, -3.0]]).requires_grad_()
    loss = policy_gradient(logp, logp.detach(), tensor([2.0]), weight_BL=tensor([[0.5, 2.0]]))
    assert loss.tolist() == [6.5]  # -2 (0.5 * -1 + 2 * -3) / 2
    loss.sum().backward()
    assert logp.grad is not None and logp.grad.tolist() == [[-0.5, -2.0]]  # -A w / L


def test_ppo_with_weights_by_hand() -> None:
    logp = tensor([[math.log(1.5), math.log(0.5)]]).requires_grad_()
    loss = ppo(logp, torch.zeros(1, 2).double(), tensor([1.0]), 0.2, weight_BL=tensor([[0.5, 2.0]]))
    # -(0.5 * min(1.5, 1.2) + 2 * min(0.5, 0.8)) / 2
    assert loss.item() == pytest.approx(-0.8, abs=1e-15)
    loss.sum().backward()
    # The first token is clipped; the second has -w rho A / L.
    assert logp.grad is not None and logp.grad[0].tolist() == pytest.approx([0.0, -0.5], abs=1e-15)


@pytest.mark.parametrize("loss", [policy_gradient, ppo])
def test_weights_of_one_change_no_bit(loss: Callable[..., Tensor]) -> None:
    logp = -torch.rand(4, 7, generator=torch.Generator().manual_seed(0))
    advantage = torch.tensor([1.0, -0.3, 0.7, -2.0])
    found, expected = (loss(logp, logp, advantage, weight_BL=w) for w in (torch.ones(4, 7), None))
    assert torch.equal(found, expected)


def test_only_the_policy_loss_is_weighted() -> None:
    logp, kl, reward = (tensor(v) for v in ([[-1.0], [-2.0]], [[0.1], [0.3]], [-1.0, -2.0]))
    scores = CotScores(logp, logp, kl, kl)
    advantages = Advantages(tensor([1.0, -1.0]), tensor([1.0, 1.0]), torch.tensor([True, True]))

    def terms(weight_BL: Tensor | None) -> Any:
        return loss_terms(policy_gradient, scores, logp, advantages, reward, Counts(2, 2), weight_BL=weight_BL)

    weighted, plain = terms(tensor([[2.0], [0.5]])), terms(None)
    assert plain.policy.item() == -0.5  # (1 - 2) / 2
    assert weighted.policy.item() == 0.5  # (2 * 1 - 0.5 * 2) / 2
    assert all(getattr(weighted, each) == getattr(plain, each) for each in ("kl", "entropy", "actor_reward"))


def test_sampler_metrics_by_hand() -> None:
    old, sampler = tensor([[0.5, 0.3, 0.2, 0.7]]).log(), tensor([[0.4, 0.1, 0.25, 0.7]]).log()
    metrics = sampler_metrics(old, sampler, importance_weight(old, sampler, 2.0), 2.0)
    gap = (math.log(1.25) + math.log(3) - math.log(0.8)) / 4
    assert {key: value.item() for key, value in metrics.items()} == pytest.approx(
        {
            "rollout/logprob_gap": gap,
            "rollout/importance_mean": (1.25 + 2 + 0.8 + 1) / 4,
            "rollout/importance_max": 2.0,
            "rollout/importance_truncated": 0.25,
        }
    )
    without = sampler_metrics(old, sampler, None, 0.0)
    assert without["rollout/logprob_gap"].item() == pytest.approx(gap)
    assert [without[f"rollout/importance_{each}"].item() for each in ("mean", "max", "truncated")] == [1, 1, 0]


def test_a_cap_under_one_is_refused() -> None:
    with pytest.raises(UserError, match=r"algorithm\.importance_cap: at least 1"):
        build_config({"algorithm": {"importance_cap": 0.5}}, "test")
    assert build_config({"algorithm": {"importance_cap": 0}}, "test").algorithm.importance_cap == 0


# --- in an update


def experience_of(policy: Policy) -> Experience:
    """Three questions of different length, four CoTs each, whose rewards are made up."""
    rollouts = sample_cots(policy, CONTEXTS, uniforms(0, 0, len(CONTEXTS) * SAMPLES, LENGTH))
    reward_B = -torch.rand(len(rollouts.cot_BL), generator=torch.Generator().manual_seed(0))
    reward_B = reward_B.to(rollouts.behaviour_logp_BL.dtype)
    answers = [AnswerContext((1, 40, *cot), (60, 61)) for cot in rollouts.cot_BL.tolist()]
    contexts = [c for c in CONTEXTS for _ in range(SAMPLES)]
    with torch.no_grad():
        reference_BLd = cot_hidden(policy, contexts, rollouts.cot_BL, "critic")
    return Experience(
        rollouts,
        answers,
        Rewards(reward_B, reward_B, torch.zeros_like(reward_B)),
        group_advantages(reward_B, SAMPLES, 1e-3),
        reference_BLd,
    )


def sampled_elsewhere(data: Experience, nats: float) -> Experience:
    """The same, but for a decoder whose log-probs are off by about so much."""
    sampler_BL = data.rollouts.behaviour_logp_BL
    noise_BL = torch.randn(sampler_BL.shape, generator=torch.Generator().manual_seed(1))
    return replace(data, rollouts=replace(data.rollouts, behaviour_logp_BL=sampler_BL + nats * noise_BL))


@pytest.fixture(scope="module")
def deep(make_policy: Callable[..., Policy], sizes: dict[str, Any]) -> Policy:
    """In bfloat16, with layers enough for one sequence in two batches to round apart."""
    config = LlamaConfig(**sizes | {"num_hidden_layers": 8, "hidden_size": 64, "intermediate_size": 128})
    return make_policy(config, dtype=torch.bfloat16)


def updater_of(policy: Policy, tokens: int = 100_000, **algorithm: Any) -> Updater:
    return Updater(policy, build_config({"algorithm": algorithm}, "test"), TokenBudgets(tokens))


@pytest.mark.parametrize("tokens", [1, 30, 100_000])
@pytest.mark.parametrize("minibatches", [1, 3])
@pytest.mark.parametrize("shares", [True, False])
@pytest.mark.parametrize("loss", ["ppo", "policy_gradient"])
def test_in_bfloat16_the_first_ratio_is_one(
    deep: Policy, monkeypatch: pytest.MonkeyPatch, tokens: int, minibatches: int, shares: bool, loss: str
) -> None:
    data = sampled_elsewhere(experience_of(deep), 0.05)
    if not shares:  # as under gradient checkpointing: whole sequences in updates alone
        monkeypatch.setattr(Policy, "shares_prompts", property(lambda _: not torch.is_grad_enabled()))
    # With a learning rate of 0 all minibatches are the first.
    metrics = updater_of(deep, tokens, loss=loss, minibatches=minibatches).update(data, PLAIN, 0.0, 0)
    assert metrics["ppo/ratio_max"] == metrics["ppo/ratio_mean"] == 1.0
    assert metrics["ppo/clip_fraction"] == metrics["ppo/behaviour_kl"] == 0.0
    assert 0.03 < metrics["rollout/logprob_gap"] < 0.1, "what sampling rounds otherwise is still seen"
    assert 1.0 < metrics["rollout/importance_max"] <= 2.0


def test_in_float32_the_weight_is_one(make_policy: Callable[..., Policy]) -> None:
    policy = make_policy()
    data = experience_of(policy)
    metrics = updater_of(policy).update(data, PLAIN, 0.0, 0)
    assert 0 < metrics["rollout/logprob_gap"] < 1e-5
    assert metrics["rollout/importance_mean"] == metrics["rollout/importance_max"] == 1.0


@pytest.mark.usefixtures("exact_norms")
@pytest.mark.parametrize("minibatches", [1, 3])
def test_the_ratio_is_against_where_the_step_began_in_every_epoch_and_after_running_out_of_memory(
    make_policy: Callable[..., Policy], monkeypatch: pytest.MonkeyPatch, minibatches: int
) -> None:
    monkeypatch.setattr(memory, "SMALLEST", 1)
    policy = make_policy(dtype=torch.float64)
    data = experience_of(policy)
    with torch.no_grad():
        expected_BL = score(policy, data.contexts, data.rollouts.cot_BL).logp_BL
    used: list[tuple[Tensor, Tensor]] = []
    made = updater_of(policy, 60, loss="ppo", minibatches=minibatches, inner_epochs=3)
    terms, backward, calls = made._terms, torch.autograd.backward, list[int]()

    def watched(data: Any, index_B: Tensor, leaves: Any, weights: Any, counts: Any, old: Any) -> Any:
        out = terms(data, index_B, leaves, weights, counts, old)
        used.append((index_B, old.logp_BL[index_B].clone()))
        return out

    def failing(*args: Any, **kwargs: Any) -> None:
        backward(*args, **kwargs)
        calls.append(1)
        if len(calls) in (4, 13):  # in the first minibatch, and later
            raise MemoryError

    monkeypatch.setattr(made, "_terms", watched)
    monkeypatch.setattr(torch.autograd, "backward", failing)
    before = [p.detach().clone() for p in made.parameters]
    metrics = made.update(data, PLAIN, 1e-2, 0)
    assert made._budgets.tokens[UPDATE] <= 15 and len(calls) > 20
    assert any((p - old).abs().max() > 1e-3 for p, old in zip(made.parameters, before, strict=True))
    assert metrics["ppo/ratio_max"] > 1.01, "later epochs have moved away"
    for index_B, logp_BL in used:
        torch.testing.assert_close(logp_BL, expected_BL[index_B], rtol=0, atol=1e-9)


@pytest.mark.usefixtures("exact_norms")
@pytest.mark.parametrize("loss", ["policy_gradient", "ppo"])
def test_cuts_do_not_change_a_weighted_gradient(make_policy: Callable[..., Policy], loss: str) -> None:
    policy = make_policy(dtype=torch.float64)
    data = sampled_elsewhere(experience_of(policy), 0.5)

    def gradient(tokens: int, cap: float = 2.0) -> Tensor:
        made = updater_of(policy, loss=loss, importance_cap=cap)
        made.gradient(data, PLAIN, token_budget=tokens)
        return torch.cat([p.grad.flatten() for p in made.parameters if p.grad is not None])

    whole = gradient(100_000)
    assert whole.norm() > 1e-3
    for tokens in (1, 30, 60):
        torch.testing.assert_close(gradient(tokens), whole, rtol=0, atol=1e-10)
    assert (gradient(100_000, cap=0.0) - whole).norm() > 1e-3, "the weights count"


def test_weights_undo_a_sampler_of_another_distribution() -> None:
    """Of one token, drawn from q, -mean A w log u is on average what it is drawn from u."""
    u, q = tensor([0.5, 0.3, 0.2]), tensor([0.4, 0.35, 0.25])
    advantage = tensor([1.0, -2.0, 0.5])
    logits = u.log().requires_grad_()
    logp = logits.log_softmax(-1)

    def slope(drawn: Tensor, weight: Tensor) -> Tensor:
        loss = policy_gradient(logp[:, None], logp[:, None], advantage, weight_BL=weight[:, None])
        return torch.autograd.grad((drawn * loss).sum(), logits, retain_graph=True)[0]

    on_policy = slope(u, torch.ones(3).double())
    weighted = slope(q, importance_weight(u.log()[:, None], q.log()[:, None], 2.0)[:, 0])
    torch.testing.assert_close(weighted, on_policy, rtol=0, atol=1e-15)
    assert (slope(q, torch.ones(3).double()) - on_policy).norm() > 0.01


# --- logits


HEADS: dict[str, tuple[type, dict[str, Any]]] = {
    "plain": (LlamaConfig, {}),
    "soft-capped": (transformers.Gemma2Config, {"head_dim": 8, "final_logit_softcapping": 5.0}),
    "scaled": (transformers.CohereConfig, {"logit_scale": 0.3}),
    "divided": (transformers.GraniteConfig, {"logits_scaling": 0.3}),
    "adapted": (LlamaConfig, {}),
}


@pytest.mark.parametrize("case", HEADS)
@pytest.mark.parametrize("role", ["actor", "critic"])
def test_a_bfloat16_models_log_probs_are_those_of_a_float32_head(
    make_policy: Callable[..., Policy], sizes: dict[str, Any], case: str, role: str
) -> None:
    kind, more = HEADS[case]
    lora = Lora(target_modules=("q_proj", "lm_head")) if case == "adapted" else None
    policy = make_policy(kind(**sizes | more), dtype=torch.bfloat16, lora=lora)
    hidden = 8 * torch.randn(2, 5, 32, generator=torch.Generator().manual_seed(0)).bfloat16()
    output = policy.model.get_base_model().get_output_embeddings()
    weight = (output.base_layer if case == "adapted" else output).weight.double()
    if case == "adapted" and role == "actor":
        a, b, scaling = output.adapter()
        weight = weight + scaling * b.double() @ a.double()
    logits = hidden.double() @ weight.T
    logits = {"scaled": 0.3 * logits, "divided": logits / 0.3, "soft-capped": 5 * torch.tanh(logits / 5)}.get(
        case, logits
    )
    expected = logits.log_softmax(-1)
    allowed = ~policy.banned_V
    expected_cot = logits.masked_fill(policy.banned_V, -math.inf).log_softmax(-1)
    assert logits.abs().max() > 4, "where bfloat16 rounds by more than 0.01"
    with torch.no_grad(), policy.acting_as(role):
        found = [policy.answer_logp(hidden)]
        found_cot = [policy.cot_logp(hidden)]
        with policy.decoding():
            found.append(policy.answer_logp(hidden))
            found_cot.append(policy.cot_logp(hidden))
    for each in found:
        assert each.dtype == torch.float32
        torch.testing.assert_close(each.double(), expected, rtol=0, atol=2e-5)
    for each in found_cot:
        torch.testing.assert_close(each.double()[..., allowed], expected_cot[..., allowed], rtol=0, atol=2e-5)
