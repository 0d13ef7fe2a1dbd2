"""Names under which other trainers log what this project's alarms look at.

A name is here only where it means the same in the same unit: nats per token, shares, and a reward in units of its own.
So TRL's `objective/kl` and `objective/entropy`, which are sums over a completion's tokens, are left out, as is its
`reward_std`, which is within groups in some releases and over the batch in others.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from markov_cot.alarms.logs.entry import Metrics, as_float, is_number


class Name(NamedTuple):
    """One line of the mapping."""

    theirs: str
    ours: str
    trainer: str
    seen: str
    """File of theirs that logs it."""


_GRPO = ("TRL GRPOTrainer, RLOOTrainer", "trl/trainer/grpo_trainer.py, rloo_trainer.py (1.16.0)")
_HF = ("transformers Trainer, as TRL's", "transformers/trainer.py (5.24.0)")
_PPO = ("TRL PPOTrainer", "trl/trainer/ppo_trainer.py and its documentation, in releases that have it")
_VERL = ("verl", "verl/workers/actor/dp_actor.py, verl/trainer/ppo/ray_trainer.py")
_VERL_DATA = ("verl", "verl/trainer/ppo/metric_utils.py")
_VERL_LR = ("verl", "verl/workers/fsdp_workers.py")
_OPEN = ("OpenRLHF", "openrlhf/trainer/ray/ppo_actor.py")
_PRIME = ("prime-rl", "src/prime_rl/trainer/rl/train.py")
_PRIME_REWARD = ("prime-rl", "its documentation's table of metrics; which of the two depends on the release")

NAMES = (
    Name("loss", "loss/total", *_HF),
    Name("grad_norm", "optim/grad_norm", *_HF),
    Name("learning_rate", "optim/lr", *_HF),
    Name("reward", "reward/value", *_GRPO),
    Name("frac_reward_zero_std", "reward/zero_variance_share", *_GRPO),
    Name("kl", "policy/kl", *_GRPO),
    Name("entropy", "policy/entropy", *_GRPO),
    Name("clip_ratio/region_mean", "ppo/clip_fraction", *_GRPO),
    Name("sampling/importance_sampling_ratio/mean", "rollout/importance_mean", *_GRPO),
    Name("sampling/importance_sampling_ratio/max", "rollout/importance_max", *_GRPO),
    Name("step_time", "perf/step_seconds", *_GRPO),
    Name("objective/scores", "reward/value", *_PPO),
    Name("policy/entropy_avg", "policy/entropy", *_PPO),
    Name("policy/approxkl_avg", "ppo/behaviour_kl", *_PPO),
    Name("policy/clipfrac_avg", "ppo/clip_fraction", *_PPO),
    Name("loss/policy_avg", "loss/policy", *_PPO),
    Name("val/ratio", "ppo/ratio_mean", *_PPO),
    Name("lr", "optim/lr", *_PPO),
    Name("actor/entropy", "policy/entropy", *_VERL),
    Name("actor/kl_loss", "policy/kl", *_VERL),
    Name("actor/ppo_kl", "ppo/behaviour_kl", *_VERL),
    Name("actor/pg_clipfrac", "ppo/clip_fraction", *_VERL),
    Name("actor/pg_loss", "loss/policy", *_VERL),
    Name("actor/grad_norm", "optim/grad_norm", *_VERL),
    Name("actor/lr", "optim/lr", *_VERL_LR),
    Name("critic/score/mean", "reward/value", *_VERL_DATA),
    Name("critic/rewards/mean", "reward/value", *_VERL_DATA),
    Name("policy_loss", "loss/policy", *_OPEN),
    Name("entropy_loss", "policy/entropy", *_OPEN),
    Name("ppo_clip_ratio", "ppo/clip_fraction", *_OPEN),
    Name("ppo_kl", "ppo/behaviour_kl", *_OPEN),
    Name("actor_lr", "optim/lr", *_OPEN),
    Name("reward", "reward/value", *_OPEN),
    Name("kl", "policy/kl", *_OPEN),
    Name("loss/mean", "loss/total", *_PRIME),
    Name("entropy/all/mean", "policy/entropy", *_PRIME),
    Name("optim/grad_norm", "optim/grad_norm", *_PRIME),
    Name("optim/lr", "optim/lr", *_PRIME),
    Name("train/agg/effective/reward/mean", "reward/value", *_PRIME_REWARD),
    Name("train/agg/all/reward/mean", "reward/value", *_PRIME_REWARD),
)
"""In the order in which they are believed where two of a row mean the same."""

PREFIX = "train/"
"""What TensorBoard and W&B put before the names of transformers' Trainer and of OpenRLHF."""
STEPS = ("step", "train/global_step", "_step")
"""Names of the step: ours, TRL's, verl's and prime-rl's; OpenRLHF's; and that of an export from W&B."""
_OURS = {name.theirs: name.ours for name in NAMES}
_IS_OURS = frozenset(name.theirs for name in NAMES if name.theirs == name.ours)


def translate(row: Mapping[str, Any]) -> Metrics:
    """Return the metrics of a row by this project's keys.

    A number under a name that is not in the table stays as it is. Under one that is, null is a metric that was not
    there, and text that reads as a number, as Trainer prints it to the console, is that number.
    """
    metrics: Metrics = {}
    theirs: Metrics = {}
    for key, value in row.items():
        ours = _look_up(key)
        if ours is None:
            if key not in STEPS and is_number(value):
                metrics[key] = as_float(value)
        elif (number := _number(value)) is not None:
            theirs.setdefault(key, as_float(number))
    for name in NAMES:
        for key in (name.theirs, PREFIX + name.theirs):
            if key in theirs:
                metrics.setdefault(name.ours, theirs[key])
    return metrics


def _look_up(key: str) -> str | None:
    return None if key in _IS_OURS else _OURS.get(key) or _OURS.get(key.removeprefix(PREFIX))


def _number(value: Any) -> float | int | None:
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return None
    return value if is_number(value) else None
