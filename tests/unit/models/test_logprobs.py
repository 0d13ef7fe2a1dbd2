from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from markov_cot.algorithms.advantages import group_advantages
from markov_cot.algorithms.losses import Weights
from markov_cot.config.loading import build_config
from markov_cot.config.prompt import Prompt
from markov_cot.config.schema import Config, Data
from markov_cot.data.problem import Problem
from markov_cot.data.prompts import AnswerContext, Prompts
from markov_cot.data.registry import load
from markov_cot.models.logprobs import cot_hidden, score_answer_tokens_in_batches, score_answers, slices_within
from markov_cot.models.memory import FixedBudget, TokenBudgets
from markov_cot.models.policy import Policy
from markov_cot.rewards.answer_logprob import Baseline, Rewards
from markov_cot.rewards.reader_models import make_readers
from markov_cot.rollouts.sampling import greedy_cots, sample_cots, uniforms
from markov_cot.training.collector import Experience
from markov_cot.training.updater import Updater
from tests.dataset_problems import problems
from tests.helpers import score

COT = [40, 41, 42, 43, 44]
PROBLEMS = {
    "numeric": Problem("n", "What is 12+35?", "47", "numeric"),
    "choice": Problem("c", "Which is largest?", "B", "choice", choices=("7", "9", "8"), passage="Three numbers."),
}
DATASETS = problems()


@pytest.fixture(scope="module")
def policy(make_policy: Callable[..., Policy]) -> Policy:
    return make_policy()


@pytest.fixture(scope="module")
def policy64(make_policy: Callable[..., Policy]) -> Policy:
    return make_policy(dtype=torch.float64, temperature=0.8)


@pytest.fixture(params=["plain", "chat"])
def either_tokenizer(request: pytest.FixtureRequest, tokenizer: Any, chat_tokenizer: Any) -> Any:
    return tokenizer if request.param == "plain" else chat_tokenizer


# --- the Markovian property, down to the reward


@pytest.mark.parametrize("role", ["actor", "critic"])
@pytest.mark.parametrize("problem", DATASETS.values(), ids=DATASETS)
def test_the_reward_does_not_see_the_question(
    policy: Policy, either_tokenizer: Any, problem: Problem, role: str
) -> None:
    other = replace(problem, question="What is 9-9?", passage="Something else.", choices=("1", "2", "3", "4"))
    for markovian in (True, False):
        prompts = Prompts(either_tokenizer, Prompt(markovian=markovian))
        rewards = [score_answers(policy, [prompts.answer_context(p, COT)], role, "mean") for p in (problem, other)]
        assert torch.equal(*rewards) is markovian


def test_the_reward_sees_the_cot_and_the_answer(policy: Policy, tokenizer: Any) -> None:
    prompts, problem = Prompts(tokenizer), PROBLEMS["numeric"]
    contexts = [prompts.answer_context(problem, cot, answer) for cot in (COT, [50, 51]) for answer in ("47", "48")]
    assert len(set(score_answers(policy, contexts, "critic", "mean").tolist())) == 4


# --- answers


def test_score_answers_by_full_forward(policy64: Policy) -> None:
    contexts = [AnswerContext((1, 40, 41), (60, 61)), AnswerContext((1, 50, 51, 52, 53), (70, 71, 72))]
    for role in ("actor", "critic"):
        expected = []
        for c in contexts:
            with torch.no_grad(), policy64.acting_as(role):
                logp = policy64.model(input_ids=torch.tensor([[*c.ids, *c.answer_ids]])).logits[0].log_softmax(-1)
            expected.append(sum(logp[len(c.ids) - 1 + i, t].item() for i, t in enumerate(c.answer_ids)))
        assert score_answers(policy64, contexts, role, "sum").tolist() == pytest.approx(expected, abs=1e-6)
        means = [expected[0] / 2, expected[1] / 3]
        assert score_answers(policy64, contexts, role, "mean").tolist() == pytest.approx(means, abs=1e-6)


def test_only_grad_asks_for_a_gradient(policy: Policy) -> None:
    context = [AnswerContext((1, 40, 41), (60, 61))]
    assert not score_answers(policy, context, "actor", "mean").requires_grad
    score_answers(policy, context, "actor", "mean", grad=True).sum().backward()
    assert all(p.grad is not None for p in policy.trainable().values())
    policy.model.zero_grad()


def test_answer_log_probs_do_not_depend_on_the_batches(policy: Policy) -> None:
    contexts = [AnswerContext((1, *range(40, 40 + 3 * i)), tuple(range(60, 61 + i))) for i in range(1, 6)]
    whole = score_answers(policy, contexts, "critic", "mean")
    for budget in (1, 30, 60):
        parts = score_answer_tokens_in_batches(policy, contexts, "critic", budget).reduced("mean")
        torch.testing.assert_close(parts, whole, rtol=0, atol=1e-5)


def test_baselines_are_the_critics_greedy_cots_scored(policy: Policy, tokenizer: Any) -> None:
    prompts, problems = Prompts(tokenizer), [PROBLEMS["numeric"], PROBLEMS["choice"]]
    baseline = Baseline(policy, make_readers(Config().reward, policy, prompts, FixedBudget(1000)), 6)
    cots = greedy_cots(policy, [prompts.question_context(p) for p in problems], 6, "critic").tolist()
    expected = score_answers(policy, list(map(prompts.answer_context, problems, cots)), "critic", "mean")
    expected = expected.double()
    torch.testing.assert_close(baseline(problems, 1000), expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(
        baseline([problems[1], problems[0], problems[1]], 1000), expected[[1, 0, 1]], rtol=0, atol=1e-6
    )


# --- CoTs


@pytest.mark.parametrize("kl", ["full", "k1", "k3"])
def test_a_policy_has_no_divergence_from_itself(make_policy: Callable[..., Policy], kl: str) -> None:
    scores = score(make_policy(adapter="fresh"), [[1, 40], [1, 41, 42]], torch.full((2, 3), 50), kl)
    assert not scores.kl_BL.any() and torch.equal(scores.logp_BL, scores.reference_logp_BL)


def test_score_cots_by_full_forward(policy64: Policy) -> None:
    context, cot = [1, 40, 41], [50, 51, 52]
    scores = score(policy64, [context], torch.tensor([cot]), "full")
    logp = {}
    for role in ("actor", "critic"):
        with torch.no_grad(), policy64.acting_as(role):
            logits = policy64.model(input_ids=torch.tensor([[*context, *cot]])).logits[0, 2:5]
        # Tempered, and nothing of the banned tokens left in the sum.
        tempered = (logits / 0.8).masked_fill(policy64.banned_V, -torch.inf)
        logp[role] = tempered.log_softmax(-1)
    kept = ~policy64.banned_V
    p = logp["actor"].exp()[:, kept]
    rows = torch.arange(3)
    tight = {"rtol": 0, "atol": 1e-6}
    torch.testing.assert_close(scores.logp_BL[0], logp["actor"][rows, cot], **tight)
    torch.testing.assert_close(scores.reference_logp_BL[0], logp["critic"][rows, cot], **tight)
    kl = (p * (logp["actor"] - logp["critic"])[:, kept]).sum(-1)
    torch.testing.assert_close(scores.kl_BL[0], kl, **tight)
    torch.testing.assert_close(scores.entropy_BL[0], -(p * logp["actor"][:, kept]).sum(-1), **tight)
    assert scores.logp_BL.requires_grad and scores.kl_BL.requires_grad
    assert not scores.reference_logp_BL.requires_grad and not scores.entropy_BL.requires_grad


# --- micro-batches


@given(st.lists(st.integers(1, 50), max_size=30), st.integers(1, 200))
def test_slices_are_in_order_complete_and_within_budget(widths: list[int], budget: int) -> None:
    parts = list(slices_within(widths, budget))
    assert [i for part in parts for i in range(part.start, part.stop)] == list(range(len(widths)))
    for part in parts:
        size = (part.stop - part.start) * max(widths[part])
        assert size <= budget or part.stop - part.start == 1


def test_slices_by_hand() -> None:
    # 2 * 4 fits into 9 and 3 * 4 does not; 5 and 5 do not fit together.
    assert [(s.start, s.stop) for s in slices_within([3, 4, 2, 5, 5], 9)] == [(0, 2), (2, 3), (3, 4), (4, 5)]


def experience_with_a_dead_group(policy: Policy, prompts: Prompts) -> Experience:
    """Three problems of different length, four CoTs each."""
    problems = load(Data(dataset="arithmetic", terms=(2, 5))).train[:3]
    rollouts = sample_cots(policy, [prompts.question_context(p) for p in problems], uniforms(0, 0, 12, 6))
    owners = [problem for problem in problems for _ in range(4)]
    answers = list(map(prompts.answer_context, owners, rollouts.cot_BL.tolist()))
    reward_B = score_answers(policy, answers, "actor", "mean")
    sigma_P = reward_B.view(3, 4).std(1, correction=0)
    floor = sigma_P.sort().values[:2].mean().item()  # between the two smallest deviations
    contexts = [c for c in rollouts.contexts for _ in range(4)]
    with torch.no_grad():
        reference_BLd = cot_hidden(policy, contexts, rollouts.cot_BL, "critic")
    return Experience(
        rollouts,
        answers,
        Rewards(reward_B, reward_B, torch.zeros_like(reward_B)),
        group_advantages(reward_B, 4, floor),
        reference_BLd,
    )


@pytest.mark.usefixtures("exact_norms")
@pytest.mark.parametrize("kl", ["full", "k1", "k3"])
def test_micro_batches_do_not_change_the_gradient(policy64: Policy, tokenizer: Any, kl: str) -> None:
    values = {"algorithm": {"kl": kl, "actor_reward_weight": 1.0}, "reward": {"reader": "actor"}}
    updater = Updater(policy64, build_config(values, "test"), TokenBudgets(1000))
    data = experience_with_a_dead_group(policy64, Prompts(tokenizer))

    def gradient(budget: int) -> tuple[Tensor, dict[str, float]]:
        losses, _ = updater.gradient(data, Weights(0.1, 1.0, 0.01), token_budget=budget)
        flat = torch.cat([p.grad.flatten() for p in updater.parameters if p.grad is not None])
        policy64.model.zero_grad()
        return flat, losses

    whole, losses = gradient(100_000)
    assert whole.any()
    for budget in (1, 100, 200):
        part, part_losses = gradient(budget)
        torch.testing.assert_close(part, whole, rtol=0, atol=1e-10)
        assert part_losses == pytest.approx(losses, abs=1e-9)


@pytest.mark.parametrize("budget", [1, 100_000])
@pytest.mark.parametrize("chosen", [list(range(12)), [0, 3, 5, 6, 11]])
def test_denominators_are_the_counts_of_live_and_of_all_sequences(
    policy64: Policy, tokenizer: Any, budget: int, chosen: list[int]
) -> None:
    values = {"algorithm": {"actor_reward_weight": 1.0}, "reward": {"reader": "actor"}}
    updater = Updater(policy64, build_config(values, "test"), TokenBudgets(1000))
    data = experience_with_a_dead_group(policy64, Prompts(tokenizer))
    advantages, live = data.advantages, [i for i in chosen if data.advantages.live_B[i]]
    assert 1 < len(live) < len(chosen)
    losses, _ = updater.gradient(data, Weights(0.1, 1.0), token_budget=budget, chosen=chosen)
    policy64.model.zero_grad()
    # The policy has not moved, so the behaviour log-probs are its own.
    logp_B = data.rollouts.behaviour_logp_BL.mean(1)
    policy = -sum((advantages.advantage_B[i] * logp_B[i]).item() for i in live) / len(live)
    reward = -sum((data.rewards.reward_B[i] / advantages.sigma_B[i]).item() for i in live) / len(live)
    with torch.no_grad():
        kl_BL = score(policy64, [data.contexts[i] for i in chosen], data.rollouts.cot_BL[chosen], "full").kl_BL
    kl = kl_BL.mean(1).sum().item() / len(chosen)
    assert losses["loss/policy"] == pytest.approx(policy, abs=1e-5)
    assert losses["loss/actor_reward"] == pytest.approx(reward, rel=1e-5)
    assert losses["loss/kl"] == pytest.approx(kl, abs=1e-6)
    assert losses["loss/total"] == pytest.approx(policy + 0.1 * kl + reward, rel=1e-5)
