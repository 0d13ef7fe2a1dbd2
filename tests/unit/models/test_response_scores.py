"""Loss and ranks of given responses, against the model's own logits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

from markov_cot.data.prompts import AnswerContext
from markov_cot.models import response_scores
from markov_cot.models.memory import FixedBudget
from markov_cot.models.response_scores import ResponseScore, score_responses_in_batches
from markov_cot.models.scorer import Scorer

CONTEXTS = [
    AnswerContext((1, 40, 41, 42), (50, 51, 52, 53, 54, 55, 56)),
    AnswerContext((1,), (60, 61)),
    AnswerContext((1, 70, 71, 72, 73, 74, 75, 76, 77), (80,)),
    AnswerContext((90,), (91, 92, 93, 94)),
]


@pytest.fixture(scope="module")
def policy(make_policy: Callable[..., Any]) -> Any:
    return make_policy()


def expected(policy: Any, context: AnswerContext, highest_rank: int) -> ResponseScore:
    """By transformers' model, its logits sorted."""
    ids = [*context.ids, *context.answer_ids]
    with torch.no_grad(), policy.by_plain_modules("critic") as base:
        logits = base(input_ids=torch.tensor([ids])).logits[0]
    nll, rank = 0.0, 0
    for place in range(len(context.ids), len(ids)):
        before = logits[place - 1]
        nll -= float(before.log_softmax(-1)[ids[place]])
        order: Sequence[int] = before.argsort(descending=True).tolist()
        rank += min(order.index(ids[place]) + 1, highest_rank)
    return ResponseScore(len(context.answer_ids), nll, rank)


@pytest.mark.parametrize("highest_rank", [1000, 20])
@pytest.mark.parametrize("budget", [10_000, 16])
def test_as_the_models_own_logits_say(
    policy: Any, monkeypatch: pytest.MonkeyPatch, budget: int, highest_rank: int
) -> None:
    right = [expected(policy, context, highest_rank) for context in CONTEXTS]
    assert any(each.rank > each.tokens for each in right), "not every token is the most probable one"
    for logits_bytes in (response_scores.LOGITS_BYTES, 3 * 4 * policy.vocabulary):
        monkeypatch.setattr(response_scores, "LOGITS_BYTES", logits_bytes)
        found = score_responses_in_batches(policy, CONTEXTS, "critic", budget, highest_rank)
        assert [(each.tokens, each.rank) for each in found] == [(each.tokens, each.rank) for each in right]
        for one, other in zip(found, right, strict=True):
            assert one.nll / one.tokens == pytest.approx(other.nll / other.tokens, abs=1e-5)


def test_no_logits_of_more_tokens_than_fit_exist_at_once(policy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = list[int]()
    original = policy.logits
    monkeypatch.setattr(response_scores, "LOGITS_BYTES", 3 * 4 * policy.vocabulary)
    monkeypatch.setattr(policy, "logits", lambda hidden: sizes.append(len(hidden)) or original(hidden))
    Scorer(policy, FixedBudget(10_000)).responses(CONTEXTS, "critic", 100)
    assert max(sizes) == 3 and sum(sizes) == sum(len(context.answer_ids) for context in CONTEXTS)


def test_the_best_token_has_rank_1_and_the_clip_is_the_highest(policy: Any) -> None:
    with torch.no_grad(), policy.by_plain_modules("critic") as base:
        logits = base(input_ids=torch.tensor([[1, 40]])).logits[0, -1]
    best, worst = int(logits.argmax()), int(logits.argmin())
    contexts = [AnswerContext((1, 40), (best,)), AnswerContext((1, 40), (worst,))]
    assert [each.rank for each in score_responses_in_batches(policy, contexts, "critic", 100, 7)] == [1, 7]
    ranks = [each.rank for each in score_responses_in_batches(policy, contexts, "critic", 100, 10**6)]
    assert ranks == [1, policy.vocabulary]
