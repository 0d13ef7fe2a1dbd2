from __future__ import annotations

import math

import pytest
import torch

from markov_cot.algorithms.types import CotScores
from markov_cot.data.problem import Problem
from markov_cot.tracking.metrics import policy_metrics, reward_metrics, states_answer, summarise


@pytest.mark.parametrize(
    ("cot", "answer", "stated"),
    [
        ("So 47.", "47", True),
        ("12+35=47", "47", True),
        ("147", "47", False),
        ("470", "47", False),
        ("47.5", "47", False),
        ("3.47", "47", False),
        ("it is $47, then", "47", True),
        ("So -3.5", "-3.5", True),
        ("So B.", "B", True),
        ("Because", "B", False),
        ("a.b", "a.b", True),
        ("axb", "a.b", False),
    ],
)
def test_states_answer(cot: str, answer: str, stated: bool) -> None:
    assert states_answer(cot, Problem("", "", answer, "numeric")) is stated


def test_reward_metrics_by_hand() -> None:
    reward_B = torch.tensor([-1.0, -3.0, -4.0, -4.0])
    # mean -12 / 4; deviations of the groups 1 and 0; the second is dead
    assert reward_metrics(2 * reward_B, reward_B, 2, 1e-3) == {
        "reward/answer_logprob": -6.0,
        "reward/value": -3.0,
        "reward/group_std": 0.5,
        "reward/zero_variance_groups": 1,
    }


def test_policy_metrics_by_hand() -> None:
    ln = math.log
    logp_BL = torch.tensor([[ln(0.5), ln(0.25)]], dtype=torch.float64, requires_grad=True)
    reference_BL = torch.tensor([[ln(0.25), ln(0.125)]], dtype=torch.float64)
    kl_BL = torch.tensor([[0.1, 0.3]], dtype=torch.float64)
    behaviour_BL = torch.tensor([[ln(0.5), ln(0.2)]], dtype=torch.float64)
    out = policy_metrics(CotScores(logp_BL, reference_BL, kl_BL, kl_BL), behaviour_BL, 0.2)
    assert {key: value.item() for key, value in out.items()} == pytest.approx(
        {
            "policy/cot_logprob": -1.5 * ln(2),  # (-ln 2 - 2 ln 2) / 2
            "policy/reference_ratio": 2.0,  # exp(mean(ln 2, ln 2))
            "policy/kl": 0.2,
            "policy/entropy": 0.2,
            "ppo/ratio_mean": 1.125,  # (1 + 0.25 / 0.2) / 2
            "ppo/ratio_max": 1.25,
            "ppo/behaviour_kl": (0.25 - math.log(1.25)) / 2,  # rho - 1 - ln rho: 0 and 0.25 - ln 1.25
            "ppo/clip_fraction": 0.5,  # 1.25 is outside 1 +- 0.2
        },
        abs=1e-12,
    )
    assert not any(value.requires_grad for value in out.values())


def test_summarise_weighs_sequences_not_micro_batches() -> None:
    parts = [
        {"policy/kl": torch.tensor([1.0, 2.0, 3.0]), "ppo/ratio_max": torch.tensor([1.0, 5.0, 2.0])},
        {"policy/kl": torch.tensor([6.0]), "ppo/ratio_max": torch.tensor([3.0])},
    ]
    assert summarise(parts) == {"policy/kl": 3.0, "ppo/ratio_max": 5.0}
