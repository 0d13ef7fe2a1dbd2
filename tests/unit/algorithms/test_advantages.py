from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from markov_cot.algorithms.advantages import centered_advantages, group_advantages, rloo_advantages

FLOOR = 1e-3
rewards = st.lists(st.lists(st.floats(-50, 0, width=32), min_size=4, max_size=4), min_size=1, max_size=5)


def test_by_hand() -> None:
    # Group 1: mean 2, deviations -1 -1 +2, sigma = sqrt((1 + 1 + 4) / 3) = sqrt 2. Group 2: all equal, so dead.
    out = group_advantages(torch.tensor([1.0, 1.0, 4.0, -5.0, -5.0, -5.0], dtype=torch.float64), 3, FLOOR)
    root = 2**0.5
    assert out.advantage_B.tolist() == pytest.approx([-1 / root, -1 / root, 2 / root, 0, 0, 0], abs=1e-15)
    assert out.sigma_B.tolist() == pytest.approx([root, root, root, FLOOR, FLOOR, FLOOR], abs=1e-15)
    assert out.live_B.tolist() == [True] * 3 + [False] * 3


def test_centered_and_leave_one_out_by_hand() -> None:
    # Means 2 and 1; in the second group the others' means are 1.5, 1.5, 0 of [0, 0, 3].
    pair, triple = torch.tensor([1.0, 3.0]), torch.tensor([0.0, 0.0, 3.0])
    assert centered_advantages(pair, 2, 1e-3).advantage_B.tolist() == [-1.0, 1.0]
    assert rloo_advantages(pair, 2, 1e-3).advantage_B.tolist() == [-2.0, 2.0]
    assert centered_advantages(triple, 3, 1e-3).advantage_B.tolist() == pytest.approx([-1.0, -1.0, 2.0], abs=1e-6)
    assert rloo_advantages(triple, 3, 1e-3).advantage_B.tolist() == pytest.approx([-1.5, -1.5, 3.0], abs=1e-6)


@given(st.lists(st.floats(-5, 5), min_size=3, max_size=6))
def test_leave_one_out_is_the_reward_less_the_others_mean(values: list[float]) -> None:
    reward = torch.tensor(values, dtype=torch.float64)
    found = rloo_advantages(reward, len(values), 1e-3)
    others = [(sum(values) - value) / (len(values) - 1) for value in values]
    expected = (
        [value - other for value, other in zip(values, others, strict=True)]
        if found.live_B.all()
        else [0.0] * len(values)
    )
    assert found.advantage_B.tolist() == pytest.approx(expected, abs=1e-9)
    assert not found.advantage_B.requires_grad and found.advantage_B.sum().item() == pytest.approx(0, abs=1e-9)


def test_the_floor_decides_who_is_dead() -> None:
    # Deviations of -d and +d have sigma d.
    for d, live in ((0.25, True), (0.24, False)):
        out = group_advantages(torch.tensor([1 - d, 1 + d], dtype=torch.float64), 2, 0.25)
        assert out.live_B.tolist() == [live, live]
        assert out.advantage_B.tolist() == pytest.approx([-1.0, 1.0] if live else [0.0, 0.0])


def test_rounding_residue_of_equal_rewards_is_not_amplified() -> None:
    # 12 equal float32 rewards of which the mean is not exact.
    out = group_advantages(torch.full((12,), -4.1), 12, FLOOR)
    assert not out.live_B.any() and not out.advantage_B.any()


@given(rewards)
def test_live_groups_are_standardised_and_dead_ones_zero(values: list[list[float]]) -> None:
    out = group_advantages(torch.tensor(values, dtype=torch.float64).flatten(), 4, FLOOR)
    assert (out.sigma_B >= FLOOR).all()
    for group, live in zip(out.advantage_B.view(-1, 4), out.live_B.view(-1, 4), strict=True):
        assert live.all() or not live.any()
        assert group.mean().item() == pytest.approx(0, abs=1e-9)
        assert group.square().mean().item() == pytest.approx(float(live[0]), abs=1e-9)


@given(rewards, st.floats(-100, 100))
def test_a_baseline_cancels(values: list[list[float]], baseline: float) -> None:
    reward_B = torch.tensor(values, dtype=torch.float64).flatten()
    plain, shifted = (group_advantages(r, 4, FLOOR) for r in (reward_B, reward_B - baseline))
    if torch.equal(plain.live_B, shifted.live_B):
        torch.testing.assert_close(shifted.advantage_B, plain.advantage_B, rtol=0, atol=1e-8)


@given(rewards)
def test_groups_do_not_mix(values: list[list[float]]) -> None:
    reward_B = torch.tensor(values, dtype=torch.float64).flatten()
    whole = group_advantages(reward_B, 4, FLOOR)
    parts = [group_advantages(part, 4, FLOOR) for part in reward_B.split(4)]
    assert torch.equal(whole.advantage_B, torch.cat([part.advantage_B for part in parts]))


def test_advantages_are_constants() -> None:
    out = group_advantages(torch.tensor([1.0, 2.0], requires_grad=True), 2, FLOOR)
    assert not out.advantage_B.requires_grad and not out.sigma_B.requires_grad


@pytest.mark.parametrize("part", [slice(1, 3), torch.tensor([1, 2])])
def test_take(part: slice | torch.Tensor) -> None:
    out = group_advantages(torch.tensor([1.0, 3.0, 5.0, 9.0]), 2, FLOOR).take(part)
    assert out.advantage_B.tolist() == [1.0, -1.0]
    assert out.sigma_B.tolist() == [1.0, 2.0] and out.live_B.tolist() == [True, True]
