"""What changes with the step by rule: the learning rate and the coefficients of the loss."""

from __future__ import annotations

import math

import torch

from markov_cot.algorithms.losses import Weights
from markov_cot.config.schema import Algorithm, Config


def learning_rate(config: Config, step: int) -> float:
    """Learning rate of a step (counted from 0): linear warm-up, then the schedule, which ends at 0 after the last."""
    optim = config.optim
    if step < optim.warmup_steps:
        return optim.lr * (step + 1) / optim.warmup_steps
    left = 1 - (step - optim.warmup_steps) / max(1, config.steps - optim.warmup_steps)
    if optim.schedule == "linear":
        return optim.lr * left
    if optim.schedule == "cosine":
        return optim.lr * 0.5 * (1 + float(torch.cos(torch.tensor((1 - left) * torch.pi))))
    return optim.lr


def loss_weights(algorithm: Algorithm, step: int, adapted: float | None) -> Weights:
    """Return the coefficients of the loss's terms at a step (counted from 0).

    The actor reward's rises linearly over `actor_reward_ramp` steps; `adapted` is beta where it has been adapted.
    """
    ramp = min(1.0, (step + 1) / algorithm.actor_reward_ramp) if algorithm.actor_reward_ramp else 1.0
    kl = algorithm.kl_weight if adapted is None or not algorithm.kl_target else adapted
    return Weights(kl, ramp * algorithm.actor_reward_weight, algorithm.entropy_weight)


def adapted_kl_weight(weight: float, kl: float, target: float) -> float:
    """beta of the next step: raised by up to 2 % where the KL is above its target, lowered where it is below.

    A tenth of the relative error, cut to 0.2 either way; a KL that is not finite changes nothing. Source: Ziegler et
    al., arXiv 1909.08593, section 2.2.
    """
    if not math.isfinite(kl):
        return weight
    error = min(0.2, max(-0.2, kl / target - 1))
    return weight * (1 + 0.1 * error)
