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


def loss_weights(algorithm: Algorithm, step: int, kl: float | None = None, entropy: float | None = None) -> Weights:
    """Return the coefficients of the loss's terms at a step (counted from 0).

    The actor reward's rises linearly over `actor_reward_ramp` steps; `kl` and `entropy` are beta and eta where they
    have been adapted.
    """
    ramp = min(1.0, (step + 1) / algorithm.actor_reward_ramp) if algorithm.actor_reward_ramp else 1.0
    beta = algorithm.kl_weight if kl is None or not algorithm.kl_target else kl
    eta = algorithm.entropy_weight if entropy is None or not algorithm.entropy_target else entropy
    return Weights(beta, ramp * algorithm.actor_reward_weight, eta)


def adapted_kl_weight(weight: float, kl: float, target: float) -> float:
    """beta of the next step: raised by up to 2 % where the KL is above its target, lowered where it is below.

    A tenth of the relative error, cut to 0.2 either way; a KL that is not finite changes nothing. Source: Ziegler et
    al., arXiv 1909.08593, section 2.2.
    """
    if not math.isfinite(kl):
        return weight
    error = min(0.2, max(-0.2, kl / target - 1))
    return weight * (1 + 0.1 * error)


def adapted_entropy_weight(weight: float, entropy: float, target: float) -> float:
    """eta of the next step: raised by up to 2 % where the entropy is below its target, lowered where it is above.

    By the rule of `adapted_kl_weight` with the sign turned, since the entropy is a bonus.
    """
    if not math.isfinite(entropy):
        return weight
    error = min(0.2, max(-0.2, 1 - entropy / target))
    return weight * (1 + 0.1 * error)
