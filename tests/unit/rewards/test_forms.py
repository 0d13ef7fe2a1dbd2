from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from markov_cot.config.reward import Reward
from markov_cot.models.logprobs import AnswerScores
from markov_cot.rewards.forms import rewards_of
from markov_cot.rewards.readers import combined

HALF, QUARTER = math.log(0.5), math.log(0.25)
logprobs = st.floats(-8, -0.01)


def scores(*answers: list[float]) -> AnswerScores:
    logps = [torch.tensor(answer, dtype=torch.float64) for answer in answers]
    return AnswerScores(torch.stack([logp.sum() for logp in logps]), torch.zeros(len(logps), dtype=torch.bool), logps)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        # 1/2 * 1/4 of the first answer, 1/4 of the second, which has one token.
        ({"form": "logprob", "reduction": "sum"}, [HALF + QUARTER, QUARTER]),
        ({"form": "logprob"}, [(HALF + QUARTER) / 2, QUARTER]),
        ({"form": "gain"}, [(HALF + QUARTER) / 2, QUARTER]),
        ({"form": "prob"}, [0.125, 0.25]),
        ({"form": "mean_prob"}, [0.375, 0.25]),
    ],
)
def test_forms_by_hand(settings: dict[str, str], expected: list[float]) -> None:
    found = rewards_of(scores([HALF, QUARTER], [QUARTER]), Reward(**settings))
    assert found.tolist() == pytest.approx(expected, abs=1e-12)


@given(st.lists(st.lists(logprobs, min_size=1, max_size=6), min_size=1, max_size=4))
def test_probabilities_are_probabilities_and_do_not_depend_on_the_padding(answers: list[list[float]]) -> None:
    for form in ("prob", "mean_prob"):
        together = rewards_of(scores(*answers), Reward(form=form))
        assert ((together > 0) & (together <= 1)).all()
        alone = [rewards_of(scores(answer), Reward(form=form)).item() for answer in answers]
        assert together.tolist() == pytest.approx(alone, rel=1e-12)


def test_forms_are_differentiable() -> None:
    logp = torch.tensor([HALF, QUARTER], dtype=torch.float64, requires_grad=True)
    made = AnswerScores(logp.sum()[None], torch.zeros(1, dtype=torch.bool), [logp])
    # d prob / d log p_t = prob, d mean_prob / d log p_t = p_t / 2.
    for form, expected in (("prob", [0.125, 0.125]), ("mean_prob", [0.25, 0.125])):
        (gradient,) = torch.autograd.grad(rewards_of(made, Reward(form=form)).sum(), logp, retain_graph=True)
        assert gradient.tolist() == pytest.approx(expected, abs=1e-12)


def test_no_answers_have_no_rewards() -> None:
    none = AnswerScores(torch.zeros(0), torch.zeros(0, dtype=torch.bool), [])
    assert rewards_of(none, Reward(form="prob")).shape == (0,)


def test_readers_combined_by_hand() -> None:
    values_RB = torch.tensor([[-1.0, -2.0], [-3.0, -1.0]], dtype=torch.float64)
    assert combined(values_RB, "mean").tolist() == [-2.0, -1.5]
    assert combined(values_RB, "min").tolist() == [-3.0, -2.0]
    # -log((e + e^3) / 2) and -log((e^2 + e) / 2)
    assert combined(values_RB, "softmin").tolist() == pytest.approx([-2.4337808, -1.6201145], abs=1e-6)


@given(st.lists(st.floats(-20, 0), min_size=1, max_size=5))
def test_softmin_is_between_the_minimum_and_the_mean(values: list[float]) -> None:
    column = torch.tensor(values, dtype=torch.float64)[:, None]
    low, soft, mean = (combined(column, how).item() for how in ("min", "softmin", "mean"))
    assert low - 1e-9 <= soft <= mean + 1e-9
