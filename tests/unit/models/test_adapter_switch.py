"""Who computes with which adapter: the one that is trained, none, or one kept from before."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from markov_cot.config.schema import Lora
from markov_cot.data.prompts import AnswerContext
from markov_cot.models.batching import pad_left
from markov_cot.models.logprobs import cot_hidden, score_answer_tokens_in_batches, score_cots
from markov_cot.models.paths import BY_HAND, FOLDED
from markov_cot.models.policy import Policy
from markov_cot.models.roles import ACTOR, CRITIC, REFERENCE, Role
from markov_cot.rollouts.sampling import greedy_cots
from tests.families import CONTEXTS
from tests.helpers import last_logits

Make = Callable[..., Policy]
COT_BL = torch.tensor([[50, 51, 52], [60, 61, 62], [70, 71, 72]])
WITH_HEAD = Lora(target_modules=("q_proj", "down_proj", "lm_head"))


def logits(policy: Policy, role: Role) -> Tensor:
    with torch.no_grad(), policy.acting_as(role):
        return last_logits(policy, pad_left(CONTEXTS, policy.pad_id, policy.device), 3)


def train(policy: Policy) -> None:
    """Stands for updates: every parameter moves."""
    for parameter in policy.trainable().values():
        parameter.data += 0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3)).to(parameter)


@pytest.mark.parametrize("lora", [Lora(), WITH_HEAD], ids=["layers", "layers and head"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_a_role_keeps_the_adapter_as_it_was(make_policy: Make, dtype: torch.dtype, lora: Lora) -> None:
    policy = make_policy(dtype=dtype, lora=lora)
    before, base = logits(policy, ACTOR), logits(policy, CRITIC)
    assert torch.equal(logits(policy, REFERENCE), base), "until one is kept for it"
    policy.adapter.keep_for([REFERENCE])
    train(policy)
    # Folded weights and adapters apart round differently.
    tolerance = {"rtol": 0, "atol": 1e-5 if dtype == torch.float32 else 1e-12 if dtype == torch.float64 else 0}
    torch.testing.assert_close(logits(policy, REFERENCE), before, **tolerance)
    assert (logits(policy, ACTOR) - before).abs().max() > 0.01
    assert torch.equal(logits(policy, CRITIC), base)
    assert policy.adapter.frozen_roles == (CRITIC, REFERENCE)


@pytest.mark.parametrize("ruled_out", [(), (FOLDED,), (BY_HAND,), (BY_HAND, FOLDED)])
def test_within_the_actors_folded_weights_too(make_policy: Make, ruled_out: tuple[str, ...]) -> None:
    policy = make_policy()
    policy.paths.ruled_out.update(ruled_out)
    policy.adapter.keep_for([CRITIC, REFERENCE])
    before = logits(policy, ACTOR)
    train(policy)
    after = logits(policy, ACTOR)
    with policy.folded():
        torch.testing.assert_close(logits(policy, CRITIC), before, rtol=0, atol=1e-5)
        assert torch.equal(logits(policy, ACTOR), after), "and they are back"
    assert policy.adapter.frozen_roles == (CRITIC,)


def test_what_is_decoded_is_the_kept_adapters(make_policy: Make) -> None:
    policy = make_policy()
    before = greedy_cots(policy, CONTEXTS, 8, ACTOR)
    policy.adapter.keep_for([CRITIC])
    train(policy)
    assert torch.equal(greedy_cots(policy, CONTEXTS, 8, CRITIC), before)
    assert not torch.equal(greedy_cots(policy, CONTEXTS, 8, ACTOR), before)


@pytest.mark.parametrize("lora", [Lora(), WITH_HEAD], ids=["layers", "layers and head"])
def test_the_kl_is_to_the_kept_adapter_and_the_gradient_is_the_actors(make_policy: Make, lora: Lora) -> None:
    """By autograd through PEFT's own modules, with the reference's log-probs as constants."""
    policy = make_policy(dtype=torch.float64, lora=lora)
    rows = torch.tensor([[*context[-4:], *cot] for context, cot in zip(CONTEXTS, COT_BL.tolist(), strict=True)])
    contexts = [row[:4] for row in rows.tolist()]
    parameters = list(policy.trainable().values())

    def plain() -> Tensor:
        with policy.by_plain_modules() as base:
            tempered = base(input_ids=rows).logits[:, 3:-1].masked_fill(policy.banned_V, -1e30)
        return tempered.log_softmax(-1)

    reference = plain().detach()
    policy.adapter.keep_for([REFERENCE])
    train(policy)
    actor = plain()
    expected = (actor.exp() * (actor - reference)).sum(-1)
    wanted = torch.autograd.grad(expected.sum(), parameters)
    with policy.folded():
        with torch.no_grad():
            reference_BLd = cot_hidden(policy, contexts, COT_BL, REFERENCE)
        hidden_BLd = cot_hidden(policy, contexts, COT_BL, ACTOR)
        scores = score_cots(policy, hidden_BLd, reference_BLd, COT_BL, "full")
        # The scores' own forward has swapped the adapters there and back.
        found = torch.autograd.grad(scores.kl_BL.sum(), parameters)
    torch.testing.assert_close(scores.kl_BL, expected, rtol=0, atol=1e-6)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kept", [False, True])
def test_a_role_within_itself_ends_with_the_outer_one(make_policy: Make, kept: bool) -> None:
    policy = make_policy()
    if kept:
        policy.adapter.keep_for([CRITIC])
        train(policy)
    expected = logits(policy, CRITIC)
    with policy.acting_as(CRITIC):
        with policy.acting_as(CRITIC):
            pass
        assert torch.equal(logits(policy, CRITIC), expected)
    assert (logits(policy, ACTOR) - expected).abs().max() > 0.01


def test_answers_of_unlike_lengths_are_all_the_critics(make_policy: Make) -> None:
    """They are read in groups, each within the role."""
    policy = make_policy()
    short = [AnswerContext((1, *range(40, 60)), (60 + i, 61)) for i in range(30)]
    long = [AnswerContext((1, *range(40, 240)), (60, 61)), AnswerContext((1, *range(50, 250)), (60, 61))]
    contexts = [*short, *long]
    lengths = [len(c.ids) + len(c.answer_ids) for c in contexts]
    with torch.no_grad():
        assert len(policy.groups_of(lengths)) > 1
    together = score_answer_tokens_in_batches(policy, contexts, CRITIC, 1 << 20).sum_B
    alone = [score_answer_tokens_in_batches(policy, [context], CRITIC, 1 << 20).sum_B for context in contexts]
    torch.testing.assert_close(together, torch.cat(alone), rtol=0, atol=1e-4)
