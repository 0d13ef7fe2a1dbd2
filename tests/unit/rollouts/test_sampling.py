from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor
from transformers import DynamicCache

from markov_cot.models.batching import Batch
from markov_cot.models.compat import has_float64
from markov_cot.models.paths import OWN_CACHE, Paths
from markov_cot.models.policy import Policy
from markov_cot.rollouts import sampling as rollouts
from markov_cot.rollouts.decode import decode
from markov_cot.rollouts.sampling import ANSWER_TOKENS, draw, greedy_answers, greedy_cots, sample_cots, uniforms

CONTEXTS = [[1, 40, 41, 42], [1, *range(50, 70)], [1, *range(100, 111)]]
LENGTH = 10
BELOW_ONE = np.nextafter(1.0, 0.0)


@pytest.fixture(scope="module")
def policy(make_policy: Callable[..., Policy]) -> Policy:
    return make_policy(dtype=torch.float64, temperature=1.3)


# --- drawing


@pytest.mark.parametrize(
    ("u", "token"), [(0.0, 1), (0.2499, 1), (0.2501, 2), (0.4999, 2), (0.5001, 4), (0.9999, 4), (BELOW_ONE, 4)]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_draw_by_hand(u: float, token: int, dtype: torch.dtype) -> None:
    # Probabilities 0, 1/4, 1/4, 0, 1/2, 0: those of 0 are never drawn, at either end or in the middle.
    probability_BV = torch.tensor([[0, 0.25, 0.25, 0, 0.5, 0]], dtype=dtype)
    assert draw(probability_BV, torch.tensor([u], dtype=torch.float64)).tolist() == [token]


@given(
    st.lists(st.one_of(st.floats(-30, 30, width=32), st.none()), min_size=1, max_size=8).filter(any),
    st.floats(0, 1, exclude_max=True),
)
def test_draw_is_the_inverse_of_the_distribution_function(values: list[float | None], u: float) -> None:
    raw = torch.tensor([[torch.finfo(torch.float32).min if v is None else v for v in values]])
    probability_BV = raw.softmax(-1)
    token = int(draw(probability_BV, torch.tensor([u], dtype=torch.float64)))
    probability = probability_BV.double()[0]
    assert values[token] is not None and probability[token] > 0
    cumulative = probability.cumsum(0)
    assert cumulative[token] - probability[token] - 1e-5 <= u <= cumulative[token] + 1e-5


def test_what_is_not_a_number_is_a_token_without_a_log_prob(make_policy: Callable[..., Policy]) -> None:
    """It must reach the loss, where the step is left out and counted, and not end the run."""
    assert draw(torch.full((1, 4), torch.nan), torch.tensor([0.3])).tolist() == [3]
    policy = make_policy()
    for parameter in policy.trainable().values():
        parameter.data.fill_(torch.nan)
    rollouts = sample_cots(policy, CONTEXTS[:1], uniforms(0, 0, 2, 3))
    assert rollouts.behaviour_logp_BL.isnan().all()


def test_draws_follow_the_distribution() -> None:
    n = 20_000
    p = torch.tensor([0.4, 0.25, 0.15, 0.1, 0.05, 0.03, 0.02])
    u = torch.from_numpy(uniforms(0, 0, n, 1)[:, 0])
    counts = draw(p.expand(n, -1), u).bincount(minlength=7).numpy()
    assert stats.chisquare(counts, n * p.numpy() / p.sum().item()).pvalue > 0.01


def test_uniforms_belong_to_a_sequence_and_a_token() -> None:
    u = uniforms(3, 5, 8, 4)
    assert u.shape == (8, 4) and u.dtype == np.float64 and (u >= 0).all() and (u < 1).all()
    assert np.array_equal(u, uniforms(3, 5, 8, 4))
    assert np.array_equal(u[:3], uniforms(3, 5, 3, 4))
    assert not np.intersect1d(u, uniforms(3, 6, 8, 4)).size and not np.intersect1d(u, uniforms(4, 5, 8, 4)).size


# --- sampling


def test_rollouts_have_the_asked_shape(policy: Policy) -> None:
    rollouts = sample_cots(policy, CONTEXTS, uniforms(0, 0, 6, LENGTH))
    assert rollouts.cot_BL.shape == rollouts.behaviour_logp_BL.shape == (6, LENGTH)
    assert rollouts.samples == 2 and rollouts.contexts == CONTEXTS
    assert (rollouts.behaviour_logp_BL < 0).all()


def test_any_slice_of_a_step_samples_the_same_cots(policy: Policy) -> None:
    u = uniforms(0, 0, 6, LENGTH)
    whole = sample_cots(policy, CONTEXTS, u)
    for i in range(3):
        part = sample_cots(policy, CONTEXTS[i : i + 1], u[2 * i : 2 * i + 2])
        assert torch.equal(part.cot_BL, whole.cot_BL[2 * i : 2 * i + 2])
        torch.testing.assert_close(
            part.behaviour_logp_BL, whole.behaviour_logp_BL[2 * i : 2 * i + 2], rtol=0, atol=1e-9
        )


def test_samples_that_share_a_prompt_equal_separate_prompts(policy: Policy) -> None:
    u = uniforms(0, 0, 6, LENGTH)
    shared = sample_cots(policy, CONTEXTS, u)
    separate = sample_cots(policy, [CONTEXTS[i // 2] for i in range(6)], u)
    assert torch.equal(shared.cot_BL, separate.cot_BL)
    torch.testing.assert_close(shared.behaviour_logp_BL, separate.behaviour_logp_BL, rtol=0, atol=1e-9)


def test_equal_uniforms_give_equal_cots_and_others_do_not(policy: Policy) -> None:
    u = uniforms(0, 0, 1, LENGTH)
    same = sample_cots(policy, CONTEXTS[:1], np.concatenate([u, u])).cot_BL
    assert torch.equal(same[0], same[1])
    assert not torch.equal(same[0], sample_cots(policy, CONTEXTS[:1], uniforms(0, 1, 1, LENGTH)).cot_BL[0])


def test_greedy_cots_do_not_depend_on_the_batch(policy: Policy) -> None:
    for role in ("actor", "critic"):
        together = greedy_cots(policy, CONTEXTS, LENGTH, role)
        for i in range(3):
            assert torch.equal(greedy_cots(policy, CONTEXTS[i : i + 1], LENGTH, role)[0], together[i])
        assert not policy.banned_V[together].any()
    assert not torch.equal(greedy_cots(policy, CONTEXTS, LENGTH, "actor"), together)


# --- greedy answers


class Scripted(Policy):
    """Stands in for a policy: after each prompt it wants to write the next token of that prompt's script."""

    shares_prompts = False

    def __init__(self, policy: Policy, scripts: dict[int, list[int]]) -> None:
        self.__dict__.update(policy.__dict__)
        self.scripts, self.forwards = scripts, 0
        self.paths = Paths(tried={OWN_CACHE})

    def read_apart(self, contexts: Batch) -> tuple[Tensor, Any]:
        self.rows = [self.scripts[row] for row in contexts.ids_BT[:, -1].tolist()]
        return self.step(), DynamicCache()

    def step(self, *_: Any) -> Tensor:
        tokens = [row[self.forwards] if self.forwards < len(row) else 60 for row in self.rows]
        self.forwards += 1
        return torch.nn.functional.one_hot(torch.tensor(tokens), self.vocabulary)

    def logits(self, hidden: Tensor) -> Tensor:
        return hidden


def answers_of(policy: Policy, scripts: list[list[int]]) -> tuple[list[str], int]:
    """What is answered when the model writes these ids, and with how many forwards."""
    scripted = Scripted(policy, {100 + i: script for i, script in enumerate(scripts)})
    return greedy_answers(scripted, [[1, 100 + i] for i in range(len(scripts))], "actor"), scripted.forwards


def encode(policy: Policy, text: str) -> list[int]:
    ids: list[int] = policy.tokenizer(text, add_special_tokens=False).input_ids
    return ids


def test_an_answer_stops_at_a_newline(policy: Policy) -> None:
    script = encode(policy, " 70\n")
    assert answers_of(policy, [[*script, *encode(policy, "8 more")]]) == (["70"], len(script))


def test_an_answer_stops_at_eos(policy: Policy) -> None:
    script = [*encode(policy, " -3.5"), policy.tokenizer.eos_token_id]
    assert answers_of(policy, [[*script, *encode(policy, "8")]]) == (["-3.5"], len(script))


def test_an_answer_has_at_most_16_tokens(policy: Policy) -> None:
    digits = encode(policy, "1234567890123456789")
    assert len(digits) == 19  # single digits
    assert answers_of(policy, [digits]) == (["1234567890123456"], ANSWER_TOKENS["numeric"])


def test_answers_of_different_length_do_not_disturb_each_other(policy: Policy) -> None:
    scripts = [encode(policy, " 7\n"), encode(policy, " 123456\n"), [policy.tokenizer.eos_token_id]]
    assert answers_of(policy, scripts) == (["7", "123456", ""], len(scripts[1]))


def test_greedy_answers_do_not_depend_on_the_batch(policy: Policy) -> None:
    for role in ("actor", "critic"):
        together = greedy_answers(policy, CONTEXTS, role)
        assert together == [greedy_answers(policy, [context], role)[0] for context in CONTEXTS]


def test_no_contexts_no_answers(policy: Policy) -> None:
    assert greedy_answers(policy, [], "critic") == []


@torch.no_grad()
def test_decode_asks_for_no_forward_whose_token_is_not_wanted(policy: Policy) -> None:
    seen: list[int] = []

    def pick(hidden_Bd: Tensor, position: int) -> Tensor:
        seen.append(position)
        return hidden_Bd.argmax(-1)

    assert decode(policy, CONTEXTS, 3, pick, samples=2).shape == (6, 3)
    assert decode(policy, CONTEXTS, 9, pick, stop=lambda: len(seen) >= 5).shape == (3, 2)
    assert seen == [0, 1, 2, 0, 1]


# --- drawing from large vocabularies, and on devices without float64


def test_every_token_of_a_large_vocabulary_can_be_drawn() -> None:
    # As frequent as words are: the n-th in 1 / n. In float32, tens of thousands add nothing to a sum near 1.
    probability = 1 / torch.arange(1, 128_257, dtype=torch.float64)
    probability = (probability / probability.sum()).float()
    order = torch.randperm(len(probability), generator=torch.Generator().manual_seed(0))
    probability = probability[order]
    cumulative = probability.double().cumsum(0)
    rare = probability.argsort()[:500]
    middle = (cumulative[rare] - probability[rare].double() / 2) / cumulative[-1]
    drawn = draw(probability.expand(500, -1), middle)
    assert torch.equal(drawn, rare)


def test_without_float64_tokens_are_drawn_on_the_cpu(policy: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    assert has_float64(torch.device("cpu")) and has_float64(torch.device("cuda"))
    assert not has_float64(torch.device("mps"))
    u = uniforms(0, 0, 6, LENGTH)
    expected = sample_cots(policy, CONTEXTS, u)
    monkeypatch.setattr(rollouts, "has_float64", lambda _: False)
    found = sample_cots(policy, CONTEXTS, u)
    assert torch.equal(found.cot_BL, expected.cot_BL)
    assert torch.equal(found.behaviour_logp_BL, expected.behaviour_logp_BL)
