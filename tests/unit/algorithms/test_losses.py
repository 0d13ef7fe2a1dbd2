from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from markov_cot.algorithms.losses import (
    KL_ESTIMATORS,
    Counts,
    LossTerms,
    Weights,
    entropy,
    full_kl,
    k1,
    k3,
    loss_terms,
    policy_gradient,
)
from markov_cot.algorithms.types import Advantages, CotScores

LN2 = math.log(2)
# Three tokens; the reference swaps the first and the last.
POLICY = torch.tensor([[[0.5, 0.25, 0.25]]], dtype=torch.float64).log()
REFERENCE = torch.tensor([[[0.25, 0.25, 0.5]]], dtype=torch.float64).log()
BANNED = torch.finfo(torch.float32).min

logits = st.lists(st.floats(-4, 4, width=32), min_size=4, max_size=4)


def leaf(values: object) -> Tensor:
    return torch.tensor(values, dtype=torch.float64, requires_grad=True)


def scores_of(logp_BL: Tensor, kl_BL: Tensor | None = None) -> CotScores:
    zeros = torch.zeros_like(logp_BL)
    return CotScores(logp_BL, zeros, zeros if kl_BL is None else kl_BL, zeros)


def advantages_of(advantage: list[float], sigma: list[float], live: list[bool]) -> Advantages:
    return Advantages(
        torch.tensor(advantage, dtype=torch.float64), torch.tensor(sigma, dtype=torch.float64), torch.tensor(live)
    )


# --- policy gradient


def test_policy_gradient_by_hand() -> None:
    logp_BL = leaf([[-1.0, -3.0], [-2.0, -4.0]])
    # -2 * (-1 - 3) / 2 = 4 and -(-0.5) * (-2 - 4) / 2 = -1.5
    loss_B = policy_gradient(logp_BL, logp_BL.detach(), torch.tensor([2.0, -0.5], dtype=torch.float64))
    assert loss_B.tolist() == [4.0, -1.5]
    loss_B.sum().backward()
    # d/dlogp = -A / L
    assert logp_BL.grad is not None and logp_BL.grad.tolist() == [[-1.0, -1.0], [0.25, 0.25]]


@given(logits)
def test_no_advantage_no_gradient(values: list[float]) -> None:
    logp_BL = leaf([values])
    policy_gradient(logp_BL, logp_BL.detach(), torch.zeros(1, dtype=torch.float64)).sum().backward()
    assert logp_BL.grad is not None and not logp_BL.grad.any()


def test_no_gradient_flows_into_the_advantage() -> None:
    advantage_B = leaf([1.0])
    policy_gradient(leaf([[-1.0]]), torch.zeros(1, 1), advantage_B).sum().backward()
    assert advantage_B.grad is None


# --- KL and entropy


def test_full_kl_by_hand() -> None:
    # 0.5 ln(0.5 / 0.25) + 0.25 ln(0.25 / 0.25) + 0.25 ln(0.25 / 0.5) = 0.5 ln 2 - 0.25 ln 2
    assert full_kl(POLICY, REFERENCE).item() == pytest.approx(0.25 * LN2, abs=1e-15)


def test_sample_estimators_by_hand() -> None:
    logp_BL, reference_BL = POLICY[0, :, ::2], REFERENCE[0, :, ::2]  # tokens 0 and 2: x = ln 2 and -ln 2
    assert k1(logp_BL, reference_BL)[0].tolist() == pytest.approx([LN2, -LN2], abs=1e-15)
    # exp(-x) - 1 + x: 1/2 - 1 + ln 2 and 2 - 1 - ln 2
    assert k3(logp_BL, reference_BL)[0].tolist() == pytest.approx([LN2 - 0.5, 1 - LN2], abs=1e-15)


def test_entropy_by_hand() -> None:
    # 0.5 ln 2 + 2 * 0.25 ln 4 = 1.5 ln 2
    assert entropy(POLICY).item() == pytest.approx(1.5 * LN2, abs=1e-15)


@given(logits)
def test_kl_of_a_policy_with_itself_is_zero(values: list[float]) -> None:
    logp_BLV = torch.tensor([[values]], dtype=torch.float64).log_softmax(-1)
    assert full_kl(logp_BLV, logp_BLV).item() == 0
    for estimator in KL_ESTIMATORS.values():
        assert estimator(logp_BLV[0], logp_BLV[0]).abs().max().item() == 0


@given(logits, logits)
def test_kl_is_never_negative(values: list[float], others: list[float]) -> None:
    u, reference = (torch.tensor([[v]], dtype=torch.float64).log_softmax(-1) for v in (values, others))
    assert full_kl(u, reference).item() >= -1e-15
    assert (k3(u[0], reference[0]) >= 0).all()


@given(logits, logits)
def test_estimators_average_to_the_kl(values: list[float], others: list[float]) -> None:
    u, reference = (torch.tensor([[v]], dtype=torch.float64).log_softmax(-1) for v in (values, others))
    for estimator in KL_ESTIMATORS.values():
        average = (u[0].exp() * estimator(u[0], reference[0])).sum()
        assert average.item() == pytest.approx(full_kl(u, reference).item(), abs=1e-12)


@given(logits, logits)
def test_k1s_gradient_averages_to_the_kls(values: list[float], others: list[float]) -> None:
    reference = torch.tensor([[others]], dtype=torch.float64).log_softmax(-1)
    exact, sampled = leaf(values), leaf(values)
    full_kl(exact.log_softmax(-1)[None, None], reference).sum().backward()
    u = sampled.log_softmax(-1)[None]
    # On-policy average: every token, weighted with its probability as a constant.
    (u.exp().detach() * k1(u, reference[0])).sum().backward()
    assert exact.grad is not None and sampled.grad is not None
    torch.testing.assert_close(sampled.grad, exact.grad, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_banned_token_makes_no_nan(dtype: torch.dtype) -> None:
    raw = torch.randn(2, 3, 8, generator=torch.Generator().manual_seed(0)).to(dtype).requires_grad_()
    banned_V = torch.arange(8) >= 6
    logp_BLV = raw.float().masked_fill(banned_V, BANNED).log_softmax(-1)
    reference_BLV = torch.zeros(2, 3, 8).masked_fill(banned_V, BANNED).log_softmax(-1)
    values = full_kl(logp_BLV, reference_BLV), entropy(logp_BLV)
    assert all(v.isfinite().all() for v in values)
    sum(v.sum() for v in values).backward()  # type: ignore[union-attr]
    assert raw.grad is not None and raw.grad.isfinite().all()
    assert not raw.grad[..., 6:].any() and raw.grad[..., :6].any()


# --- the terms of a step


def test_loss_terms_by_hand() -> None:
    scores = scores_of(leaf([[-1.0, -3.0], [-2.0, -2.0], [-5.0, -7.0]]), leaf([[0.1, 0.3], [0.2, 0.2], [0.6, 0.6]]))
    advantages = advantages_of([1.0, -1.0, 0.0], [0.5, 0.5, 0.001], [True, True, False])
    reward_B = leaf([-1.0, -2.0, -9.0])
    terms = loss_terms(policy_gradient, scores, scores.logp_BL.detach(), advantages, reward_B, Counts(2, 3))
    assert terms.policy.item() == 0.0  # (1 * 2 - 1 * 2) / 2
    assert terms.kl.item() == pytest.approx(1.0 / 3)  # (0.2 + 0.2 + 0.6) / 3: the dead sequence counts
    assert terms.actor_reward.item() == 3.0  # -(-1 / 0.5 - 2 / 0.5) / 2: the dead one does not
    assert terms.total(Weights(kl=0.3, actor_reward=2.0)).item() == pytest.approx(0.0 + 0.1 + 6.0)


def test_a_dead_group_feels_only_the_kl() -> None:
    logp_BL, kl_BL, reward_B = leaf([[-1.0], [-2.0]]), leaf([[0.1], [0.2]]), leaf([-1.0, -2.0])
    # The advantage of the dead sequence is not 0 here, so that its weight alone must keep it out.
    advantages = advantages_of([1.0, 5.0], [1.0, 1.0], [True, False])
    terms = loss_terms(policy_gradient, scores_of(logp_BL, kl_BL), logp_BL.detach(), advantages, reward_B, Counts(1, 2))
    terms.total(Weights(kl=1.0, actor_reward=1.0)).backward()
    assert logp_BL.grad is not None and logp_BL.grad.tolist() == [[-1.0], [0.0]]
    assert reward_B.grad is not None and reward_B.grad.tolist() == [-1.0, 0.0]
    assert kl_BL.grad is not None and kl_BL.grad.tolist() == [[0.5], [0.5]]


def test_nothing_live_still_gives_finite_terms() -> None:
    logp_BL = leaf([[-1.0], [-2.0]])
    advantages = advantages_of([0.0, 0.0], [0.001, 0.001], [False, False])
    terms = loss_terms(
        policy_gradient, scores_of(logp_BL), logp_BL.detach(), advantages, leaf([1.0, 1.0]), Counts(0, 2)
    )
    assert (terms.policy.item(), terms.kl.item(), terms.actor_reward.item()) == (0.0, 0.0, 0.0)


def test_without_an_actor_reward_the_term_is_zero() -> None:
    logp_BL = leaf([[-1.0]])
    advantages = advantages_of([1.0], [1.0], [True])
    terms = loss_terms(policy_gradient, scores_of(logp_BL), logp_BL.detach(), advantages, None, Counts(1, 1))
    assert isinstance(terms, LossTerms) and terms.actor_reward.item() == 0.0


@settings(max_examples=30)
@given(st.lists(st.integers(1, 7), max_size=7, unique=True).map(sorted), st.integers(0, 2**31))
def test_how_sequences_are_cut_does_not_change_the_gradient(cuts: list[int], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    table = torch.randn(8, 3, 5, generator=generator, dtype=torch.float64)
    live_B = torch.tensor([True] * 4 + [False] * 4)
    advantages = Advantages(
        torch.randn(8, generator=generator, dtype=torch.float64) * live_B,
        torch.full((8,), 0.7, dtype=torch.float64),
        live_B,
    )
    reference_BLV = torch.zeros(8, 3, 5, dtype=torch.float64).log_softmax(-1)

    def gradient(edges: list[int]) -> Tensor:
        parameter = torch.ones(5, dtype=torch.float64, requires_grad=True)
        for start, end in zip([0, *edges], [*edges, 8], strict=True):
            part = slice(start, end)
            logp_BLV = (table[part] * parameter).log_softmax(-1)
            kl_BL = full_kl(logp_BLV, reference_BLV[part])
            scores = CotScores(logp_BLV[..., 0], reference_BLV[part][..., 0], kl_BL, kl_BL.detach())
            reward_B = logp_BLV[:, 0, 1]
            terms = loss_terms(
                policy_gradient, scores, scores.logp_BL.detach(), advantages.take(part), reward_B, Counts(4, 8)
            )
            terms.total(Weights(kl=0.1, actor_reward=1.0)).backward()
        assert parameter.grad is not None
        return parameter.grad

    torch.testing.assert_close(gradient(cuts), gradient([]), rtol=0, atol=1e-12)
