"""The algorithm family: each advantage and loss by hand, and each one's place in the loop."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import GPT2Config

from markov_cot.alarms.monitor import Event
from markov_cot.algorithms.advantages import History, ema_advantages, expert_advantages, unscaled
from markov_cot.algorithms.losses import Weights, policy_gradient, ppo
from markov_cot.algorithms.schedules import adapted_entropy_weight, adapted_kl_weight, loss_weights
from markov_cot.data.prompts import Prompts
from markov_cot.data.registry import load
from markov_cot.models.memory import TokenBudgets
from markov_cot.rewards.reader_models import make_readers
from markov_cot.training.collector import Collector, Experience
from markov_cot.training.trainer import Trainer
from markov_cot.training.updater import Updater
from tests.helpers import open_tracker
from tests.small_runs import warm
from tests.trainer_helpers import ignore, log, parameters, small_config, trainer


@pytest.fixture(scope="module", autouse=True)
def _warm() -> Iterator[None]:
    with warm():
        yield


def leaf(values: list[list[float]]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "slope"),
    [
        # -min(ratio A, clip(ratio) A); its slope in log u is -ratio A where the unclipped side is the smaller.
        (1.0, 2.0, -2.0, -2.0),
        (1.1, 2.0, -2.2, -2.2),
        (1.5, 2.0, -2.4, 0.0),  # good token, already more likely than 1.2: no further push
        (0.5, 2.0, -1.0, -1.0),  # good token that became unlikely: pushed back up
        (1.5, -2.0, 3.0, 3.0),  # bad token that became likely: pushed down
        (0.5, -2.0, 1.6, 0.0),  # bad token, already less likely than 0.8: no further push
    ],
)
def test_ppo_clipping_by_hand(ratio: float, advantage: float, loss: float, slope: float) -> None:
    logp = leaf([[math.log(ratio) - 1.0]])
    value = ppo(logp, torch.tensor([[-1.0]]).double(), torch.tensor([advantage]).double(), 0.2)
    value.sum().backward()
    assert value.item() == pytest.approx(loss, abs=1e-12)
    assert logp.grad is not None and logp.grad.item() == pytest.approx(slope, abs=1e-12)


def test_ppo_wider_upper_bound() -> None:
    logp, behaviour = leaf([[math.log(1.25)]]), torch.zeros(1, 1).double()
    assert ppo(logp, behaviour, torch.ones(1).double(), 0.2, 0.28).item() == pytest.approx(-1.25)
    assert ppo(logp, behaviour, torch.ones(1).double(), 0.2).item() == pytest.approx(-1.2)


def test_ppo_at_ratio_one_has_the_policy_gradient() -> None:
    values = torch.randn(6, 5, generator=torch.Generator().manual_seed(0)).double() - 2
    advantage = torch.linspace(-1, 1, 6).double()
    gradients = []
    for loss in (policy_gradient, ppo):
        logp = values.clone().requires_grad_()
        loss(logp, values, advantage).sum().backward()
        gradients.append(logp.grad)
    assert torch.allclose(gradients[0], gradients[1], rtol=0, atol=1e-15)


def test_history_is_welfords() -> None:
    history = History().extended(torch.tensor([1.0, 3.0]), 0.9).extended(torch.tensor([5.0, 7.0]), 0.9)
    # 1, 3, 5, 7: mean 4, squares 9 + 1 + 1 + 9 = 20; average 0.9 * 2 + 0.1 * 6 = 2.4
    assert (history.steps, history.count, history.mean) == (2, 4, 4.0)
    assert history.squares == pytest.approx(20) and history.deviation == pytest.approx(math.sqrt(5))
    assert history.average == pytest.approx(2.4)


def test_history_leaves_out_what_is_not_finite() -> None:
    history = History().extended(torch.tensor([math.nan, 2.0, math.inf]), 0.9)
    assert (history.count, history.mean, history.average) == (1, 2.0, 2.0)
    assert history.extended(torch.tensor([math.nan]), 0.9) == history


def test_ema_advantage_by_hand() -> None:
    reward = torch.tensor([1.0, 2.0])
    assert ema_advantages(reward, History(average=0.5)).advantage_B.tolist() == [0.5, 1.5]
    assert ema_advantages(reward, History()).advantage_B.tolist() == [-0.5, 0.5]


def test_expert_iteration_by_hand() -> None:
    history = History(steps=25, count=4, mean=4.0, squares=20.0)  # deviation sqrt(5) = 2.236; bound 6.236
    kept = expert_advantages(torch.tensor([6.0, 6.3, 9.0]), history, 1.0, 25)
    assert kept.live_B.tolist() == [False, True, True] and kept.advantage_B.tolist() == [0.0, 1.0, 1.0]
    assert not expert_advantages(torch.tensor([99.0]), history, 1.0, 26).live_B.any()


def test_adapted_entropy_weight_by_hand() -> None:
    assert adapted_entropy_weight(0.1, 2.0, 2.0) == pytest.approx(0.1)
    assert adapted_entropy_weight(0.1, 1.9, 2.0) == pytest.approx(0.1005)  # a twentieth too low, a tenth of that
    assert adapted_entropy_weight(0.1, 0.0, 2.0) == pytest.approx(0.102)  # cut to 0.2
    assert adapted_entropy_weight(0.1, 9.0, 2.0) == pytest.approx(0.098)
    assert adapted_entropy_weight(0.1, math.nan, 2.0) == 0.1


def test_adapted_kl_weight_by_hand() -> None:
    assert adapted_kl_weight(0.1, 0.02, 0.02) == pytest.approx(0.1)
    assert adapted_kl_weight(0.1, 0.021, 0.02) == pytest.approx(0.1005)  # error 0.05, a tenth of it
    assert adapted_kl_weight(0.1, 9.0, 0.02) == pytest.approx(0.102)  # cut to 0.2
    assert adapted_kl_weight(0.1, 0.0, 0.02) == pytest.approx(0.098)
    assert adapted_kl_weight(0.1, math.nan, 0.02) == adapted_kl_weight(0.1, math.inf, 0.02) == 0.1


def experience_of(made: Trainer) -> Experience:
    session = made.session
    with torch.no_grad():  # a fresh adapter is the identity, at which several gradients are zero
        for name, p in session.policy.trainable().items():
            if "lora_B" in name:
                p.copy_(0.02 * torch.randn(p.shape, generator=torch.Generator().manual_seed(0)))
    problems = session.shuffle.batch(0, session.config.rollout.problems)
    return made.method.collector.collect(problems, 0, History(steps=99, count=2, mean=-9.0))[0]


def gradient(made: Trainer, experience: Experience, weights: Weights) -> Tensor:
    for p in made.method.updater.parameters:
        p.grad = None
    made.method.updater.gradient(experience, weights, token_budget=10_000)
    return torch.cat([p.grad.flatten() for p in made.method.updater.parameters if p.grad is not None])


def with_actor(tmp_path: Path, **algorithm: Any) -> Trainer:
    return trainer(
        small_config(
            tmp_path,
            model={"dtype": "float64"},
            reward={"reader": "actor"},
            algorithm={"actor_reward_weight": 1.0} | algorithm,
        )
    )


def test_one_epoch_of_ppo_is_policy_gradient_on_a_model(tmp_path: Path) -> None:
    gradients = []
    for i, loss in enumerate(("policy_gradient", "ppo")):
        made = with_actor(tmp_path / str(i), loss=loss)
        gradients.append(gradient(made, experience_of(made), Weights(0.1, 1.0, 0.01)))
    assert gradients[0].norm() > 1e-3
    assert (gradients[0] - gradients[1]).abs().max() < 1e-6


@pytest.mark.parametrize("loss", ["policy_gradient", "ppo"])
@pytest.mark.parametrize("advantage", ["group", "normalized", "raw", "ema", "expert"])
def test_every_term_is_in_the_loss_in_every_mode(tmp_path: Path, loss: str, advantage: str) -> None:
    made = with_actor(tmp_path, loss=loss, advantage=advantage)
    experience = experience_of(made)
    plain = gradient(made, experience, Weights(0.0, 0.0, 0.0))
    assert plain.norm() > 1e-6
    for weights in (Weights(1.0, 0.0, 0.0), Weights(0.0, 1.0, 0.0), Weights(0.0, 0.0, 1.0)):
        assert (gradient(made, experience, weights) - plain).norm() > 1e-6, weights


def test_actor_reward_gradient_equals_finite_differences(tmp_path: Path, make_policy: Any) -> None:
    # GPT-2, because the norms of the other families compute in float32 whatever the model's dtype.
    sizes = {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 128}
    config = small_config(tmp_path, reward={"reader": "actor"}, algorithm={"actor_reward_weight": 1.0})
    policy = make_policy(GPT2Config(vocab_size=512, **sizes), dtype=torch.float64)
    problems = load(config.data).train[:2]
    readers = make_readers(config.reward, policy, Prompts(policy.tokenizer), TokenBudgets(10_000))
    collector = Collector(policy, readers, config, TokenBudgets(10_000))
    experience, _, _ = collector.collect(problems, 0, History())
    updater = Updater(policy, config, TokenBudgets(10_000))
    only_reward = Weights(0.0, 1.0, 0.0)
    updater.gradient(experience, only_reward, token_budget=10_000)
    whole = [p.grad.clone() for p in updater.parameters if p.grad is not None]
    for p in updater.parameters:
        p.grad = None
    updater.gradient(experience, Weights(0.0, 0.0, 0.0), token_budget=10_000)
    generator = torch.Generator().manual_seed(1)
    direction = [torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in updater.parameters]
    gradients = [w - p.grad for w, p in zip(whole, updater.parameters, strict=True) if p.grad is not None]
    slope = sum((g * d).sum().item() for g, d in zip(gradients, direction, strict=True))

    def move(by: float) -> None:
        with torch.no_grad():
            for p, d in zip(updater.parameters, direction, strict=True):
                p += by * d

    def value(step: float) -> float:
        move(step)
        losses, _ = updater.gradient(experience, only_reward, token_budget=10_000)
        move(-step)
        return losses["loss/actor_reward"]

    numeric = (value(1e-6) - value(-1e-6)) / 2e-6
    assert abs(slope) > 1e-3
    assert numeric == pytest.approx(slope, rel=1e-5)


def test_the_mean_of_self_standardised_rewards_has_no_gradient() -> None:
    reward = leaf([[1.0, 2.0, 4.0, -3.0]])
    ((reward - reward.mean()) / reward.std(correction=0)).mean().backward()
    assert reward.grad is not None and reward.grad.abs().max() < 1e-15
    reward = leaf([[1.0, 2.0, 4.0, -3.0]])
    ((reward - reward.mean().detach()) / reward.std(correction=0).detach()).mean().backward()
    assert reward.grad is not None and reward.grad.abs().min() > 0.05


def test_entropy_is_a_bonus(tmp_path: Path) -> None:
    made = with_actor(tmp_path)
    experience = experience_of(made)
    losses, _ = made.method.updater.gradient(experience, Weights(0.5, 0.0, 2.0), token_budget=10_000)
    expected = losses["loss/policy"] + 0.5 * losses["loss/kl"] - 2.0 * losses["loss/entropy"]
    assert losses["loss/total"] == pytest.approx(expected, abs=1e-12)


def test_minibatches_are_a_partition_that_changes_from_pass_to_pass(tmp_path: Path) -> None:
    made = trainer(small_config(tmp_path, algorithm={"minibatches": 3}))
    first, again, second = (list(made.method.updater._minibatches(8, 5, epoch)) for epoch in (0, 0, 1))
    assert first == again != second
    assert sorted(i for part in first for i in part) == list(range(8))
    assert sorted(map(len, first)) == [2, 3, 3]


MODES: dict[str, dict[str, Any]] = {
    "ppo": {"loss": "ppo", "inner_epochs": 2, "minibatches": 2},
    "ema": {"advantage": "ema"},
    "expert": {"advantage": "expert", "expert_warmup": 1, "expert_threshold": 0.2},
    "adaptive": {"kl_target": 0.01},
    "resampling": {"resample_dead": 2, "sigma_floor": 0.5},
}
"""Those that carry something from step to step, or sample again; benchmarks/kill_resume.py has all."""


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_trains_and_resumes_exactly(tmp_path: Path, mode: str) -> None:
    whole = trainer(small_config(tmp_path / "whole", algorithm=MODES[mode], validation={"every": 0}))
    whole.run(ignore)
    config = small_config(tmp_path / "parts", algorithm=MODES[mode], validation={"every": 0})
    first = trainer(config)
    assert first.run(ignore, lambda: first.state.progress.step == 3).interrupted
    second = trainer(config, resume=True)
    second.run(ignore)
    expected, actual = parameters(whole), parameters(second)
    assert all(torch.equal(actual[name], expected[name]) for name in expected)
    assert any(p.abs().sum() > 0 for name, p in expected.items() if "lora_B" in name)
    for line, wanted in zip(log(second), log(whole), strict=True):
        assert {k: v for k, v in line.items() if "perf/" not in k} == {
            k: v for k, v in wanted.items() if "perf/" not in k
        }


def test_inner_epochs_stop_on_kl(tmp_path: Path) -> None:
    algorithm = {"loss": "ppo", "inner_epochs": 5, "inner_kl_stop": 1e-6}
    made = trainer(small_config(tmp_path, steps=2, algorithm=algorithm, validation={"every": 0}))
    made.run(ignore)
    assert [line["ppo/inner_epochs"] for line in log(made)] == [2, 2]


def test_resampling_replaces_only_dead_groups(tmp_path: Path) -> None:
    plain = trainer(small_config(tmp_path / "plain"))
    problems = plain.session.shuffle.batch(0, 2)
    before, _, _ = plain.method.collector.collect(problems, 0, History())
    sigma = before.rewards.reward_B.view(2, 4).std(1, correction=0)
    floor = float(sigma.mean())  # one of the two groups is below it
    made = trainer(small_config(tmp_path / "resampling", algorithm={"resample_dead": 1, "sigma_floor": floor}))
    after, _, metrics = made.method.collector.collect(problems, 0, History())
    dead, live = int(sigma.argmin()), int(sigma.argmax())
    cots, others = (e.rollouts.cot_BL.view(2, 4, -1) for e in (before, after))
    assert metrics["reward/resampled_groups"] == 1
    assert torch.equal(cots[live], others[live])
    assert not torch.equal(cots[dead], others[dead])
    assert [c.ids for c in after.answers] == [
        made.session.readers.prompts.answer_context(problems[i // 4], cot).ids
        for i, cot in enumerate(after.rollouts.cot_BL.tolist())
    ]


def test_actor_reward_ramp(tmp_path: Path) -> None:
    algorithm = with_actor(tmp_path, actor_reward_ramp=4).session.config.algorithm
    weights = [loss_weights(algorithm, step, None).actor_reward for step in range(6)]
    assert weights == [0.25, 0.5, 0.75, 1, 1, 1]


def test_unscaled_is_all_live() -> None:
    out = unscaled(torch.tensor([1.0, -2.0], requires_grad=True))
    assert not out.advantage_B.requires_grad
    assert (out.sigma_B.tolist(), out.live_B.tolist()) == ([1.0, 1.0], [True, True])


def test_a_critical_alarm_stops_and_explains(tmp_path: Path) -> None:
    alarms = {"kl": {"warn": 1e-9, "critical": 2e-9, "hard": 3e-9}}
    made = trainer(small_config(tmp_path, alarms=alarms))
    outcome = made.run(ignore)
    assert [event.alarm for event in outcome.alarms] == ["kl"]
    assert made.state.folder.exists()
    assert log(made)[-1]["alarm/kl"] == 2
    assert '"alarm": "kl"' in (made.session.folders.run / "alarms.jsonl").read_text()


def test_rollback_restores_policy_and_optimizer_and_lowers_the_learning_rate(tmp_path: Path) -> None:
    alarms = {"action": "rollback", "rollback_limit": 1, "kl": {"warn": 1e-9, "critical": 2e-9, "hard": 3e-9}}
    made = trainer(small_config(tmp_path, checkpoint={"every": 1, "keep": 9}, alarms=alarms))
    outcome = made.run(ignore)
    assert outcome.alarms, "the alarm comes again, and the limit is one rollback"
    assert (made.state.progress.rollbacks, made.state.progress.lr_scale) == (1, 0.2)
    steps = [line["step"] for line in log(made)]
    assert steps == sorted(set(steps))
    # After the rollback to the first checkpoint every step has a fifth of its learning rate.
    assert log(made)[-1]["optim/lr"] == pytest.approx(0.2 * min(1.0, steps[-1] / 2) * 1e-2)


def test_rollback_points_best_at_the_best_that_is_left(tmp_path: Path) -> None:
    settings = {"checkpoint": {"every": 1, "keep": 9}, "validation": {"every": 1}, "alarms": {"action": "rollback"}}
    made = trainer(small_config(tmp_path, steps=4, **settings))
    scores = iter([0.1, 0.5, 0.2, 0.3, 0.9])
    with pytest.MonkeyPatch.context() as patch:
        original = Trainer._validate
        patch.setattr(Trainer, "_validate", lambda *args: (original(*args)[0], (next(scores), 0.0)))
        made.run(ignore)
    best = made.state.folder.with_name("best")
    assert best.resolve().name == "adapter_4"
    with open_tracker(made.session.folders.run, 4) as tracker:
        assert made.state.roll_back([Event("kl", "critical", 4, 4, {}, "")], tracker)
    assert made.state.progress.step == 2 and best.resolve().name == "adapter_1"


def test_rollback_goes_behind_the_earliest_sign_of_all_critical_alarms(tmp_path: Path) -> None:
    alarms = {"action": "rollback", "ratio": {"enabled": False}, "kl": {"enabled": False}}
    made = trainer(small_config(tmp_path, steps=6, checkpoint={"every": 1, "keep": 9}, alarms=alarms))
    made.run(ignore)
    events = [Event("kl", "critical", 6, 6, {}, ""), Event("ratio", "critical", 6, 5, {}, "")]
    with open_tracker(made.session.folders.run, 6) as tracker:
        assert made.state.roll_back(events, tracker)
        assert made.state.progress.step == 3, (
            "step 5, where the ratio alarm saw it, sampled with the policy saved at step 4"
        )
        assert made.state.roll_back(events, tracker)
        assert made.state.progress.step == 2, "the checkpoint of step 3 was no help"
        assert (made.state.progress.rollbacks, made.state.progress.lr_scale) == (2, pytest.approx(0.04))
