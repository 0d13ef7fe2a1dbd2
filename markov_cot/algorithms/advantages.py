"""From rewards to advantages. Pure functions on tensors.

Shapes: P problems, G samples per problem, B = P*G sequences (problem-major). Units: nats.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from markov_cot.algorithms.types import Advantages, FloatB
from markov_cot.config.schema import Algorithm


@dataclass(frozen=True, slots=True)
class History:
    """What advantages remember of the normalised rewards of earlier steps; saved in checkpoints as JSON."""

    steps: int = 0
    count: int = 0
    mean: float = 0.0
    squares: float = 0.0
    """Sum of squared deviations from the mean (Welford)."""
    average: float | None = None
    """Exponential moving average of the steps' means; None before the first."""

    @property
    def deviation(self) -> float:
        """Standard deviation, ddof 0."""
        return math.sqrt(self.squares / self.count) if self.count else 0.0

    def extended(self, reward_B: Tensor, ema_decay: float) -> History:
        """With one more step's rewards."""
        rewards = [value for value in reward_B.tolist() if math.isfinite(value)]
        known = self
        for value in rewards:
            mean = known.mean + (value - known.mean) / (known.count + 1)
            squares = known.squares + (value - known.mean) * (value - mean)
            known = replace(known, count=known.count + 1, mean=mean, squares=squares)
        if not rewards:
            return known
        now = sum(rewards) / len(rewards)
        average = now if known.average is None else ema_decay * known.average + (1 - ema_decay) * now
        return replace(known, steps=known.steps + 1, average=average)


def group_advantages(reward_B: FloatB, samples: int, sigma_floor: float) -> Advantages:
    """Rewards standardised within each group: A_i = (R_i - mu_g) / sigma_g.

    sigma_g is the group's standard deviation with ddof 0 (nats). A group below `sigma_floor` is dead: its advantages
    are 0 and it is not live, since dividing rounding residue by a tiny sigma would amplify it thousands of times.
    Source: GRPO (arXiv 2402.03300, eq. 3), with the floor in place of their epsilon.
    """
    reward_PG = reward_B.detach().view(-1, samples)
    centred_PG = reward_PG - reward_PG.mean(1, keepdim=True)
    sigma_P1 = centred_PG.square().mean(1, keepdim=True).sqrt()
    live_PG = (sigma_P1 >= sigma_floor).expand_as(centred_PG)
    sigma_PG = sigma_P1.clamp(min=sigma_floor).expand_as(centred_PG)
    advantage_PG = (centred_PG / sigma_PG).where(live_PG, centred_PG.new_zeros(()))
    return Advantages(advantage_PG.reshape(-1), sigma_PG.reshape(-1), live_PG.reshape(-1))


def unscaled(advantage_B: FloatB) -> Advantages:
    """Advantages taken as they are: every sequence is live, and sigma is 1 nat."""
    advantage_B = advantage_B.detach()
    return Advantages(advantage_B, torch.ones_like(advantage_B), torch.ones_like(advantage_B, dtype=torch.bool))


def ema_advantages(reward_B: FloatB, history: History) -> Advantages:
    """A_i = R_i - V, V the moving average of earlier steps (R's own mean at the first). Source: arXiv 2404.18988."""
    average = reward_B.mean().item() if history.average is None else history.average
    return unscaled(reward_B - average)


def expert_advantages(reward_B: FloatB, history: History, threshold: float, warmup: int) -> Advantages:
    """1, and live, where R_i > mu + k sigma of the history of R; the rest takes no part (arXiv 2404.18988).

    Nothing is kept in the first `warmup` steps.
    """
    bound = history.mean + threshold * history.deviation if history.steps >= warmup else math.inf
    kept_B = reward_B.detach() > bound
    return Advantages(kept_B.to(reward_B.dtype), torch.ones_like(reward_B), kept_B)


AdvantageFunction = Callable[[Tensor, Tensor, int, Algorithm, History], Advantages]
"""(answer log-probs r_B, normalised rewards R_B, G, settings, history of R) -> advantages."""

ADVANTAGES: dict[str, AdvantageFunction] = {
    "group": lambda raw_B, _, samples, settings, __: group_advantages(raw_B, samples, settings.sigma_floor),
    "normalized": lambda _, reward_B, __, ___, ____: unscaled(reward_B),
    "raw": lambda raw_B, _, __, ___, ____: unscaled(raw_B),
    "ema": lambda _, reward_B, __, ___, history: ema_advantages(reward_B, history),
    "expert": lambda _, reward_B, __, settings, history: expert_advantages(
        reward_B, history, settings.expert_threshold, settings.expert_warmup
    ),
}
WITHOUT_BASELINE = ("group", "raw")
"""Advantages that do not depend on the baseline b, which is then scored for reporting only."""
