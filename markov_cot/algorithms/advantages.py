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
from markov_cot.utils.hooks import check_values, hook
from markov_cot.utils.plugins import Registry, is_code


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


def centered_advantages(reward_B: FloatB, samples: int, sigma_floor: float) -> Advantages:
    """Rewards less their group's mean, A_i = R_i - mu_g, in nats; dead groups as in `group_advantages`.

    Without the division by sigma_g a question weighs as much as its rewards differ. Source: Dr. GRPO (arXiv
    2503.20783).
    """
    grouped = group_advantages(reward_B, samples, sigma_floor)
    return replace(grouped, advantage_B=grouped.advantage_B * grouped.sigma_B)


def rloo_advantages(reward_B: FloatB, samples: int, sigma_floor: float) -> Advantages:
    """Rewards less the mean of their group's others, A_i = R_i - mean_{j != i} R_j, in nats; dead groups as above.

    Equal to G / (G - 1) times the centred reward. Source: REINFORCE leave-one-out (Kool et al. 2019; arXiv
    2402.14740).
    """
    centered = centered_advantages(reward_B, samples, sigma_floor)
    return replace(centered, advantage_B=centered.advantage_B * (samples / (samples - 1)))


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


@dataclass(frozen=True, slots=True)
class AdvantageBatch:
    """What advantages are computed from."""

    reward_B: Tensor
    """Rewards of the B CoTs, problem-major."""
    normalized_B: Tensor
    """The same less the baseline's; `reward_B` itself where the advantage does not need the baseline."""
    samples: int
    """G."""
    settings: Algorithm
    history: History
    """Of the normalised rewards of earlier steps."""


AdvantageFunction = Callable[..., Advantages | Tensor]
"""(AdvantageBatch, **algorithm.advantage_args) -> advantages, or [B] to be taken as they are.

One whose attribute `needs_baseline` is False gets no baseline, which is then scored for reporting only.
"""


def _group(batch: AdvantageBatch) -> Advantages:
    return group_advantages(batch.reward_B, batch.samples, batch.settings.sigma_floor)


def _centered(batch: AdvantageBatch) -> Advantages:
    return centered_advantages(batch.reward_B, batch.samples, batch.settings.sigma_floor)


def _rloo(batch: AdvantageBatch) -> Advantages:
    return rloo_advantages(batch.reward_B, batch.samples, batch.settings.sigma_floor)


def _normalized(batch: AdvantageBatch) -> Advantages:
    return unscaled(batch.normalized_B)


def _raw(batch: AdvantageBatch) -> Advantages:
    return unscaled(batch.reward_B)


def _ema(batch: AdvantageBatch) -> Advantages:
    return ema_advantages(batch.normalized_B, batch.history)


def _expert(batch: AdvantageBatch) -> Advantages:
    settings = batch.settings
    return expert_advantages(batch.normalized_B, batch.history, settings.expert_threshold, settings.expert_warmup)


ADVANTAGES: Registry[AdvantageFunction] = Registry(
    "advantage",
    {
        "group": _group,
        "centered": _centered,
        "rloo": _rloo,
        "normalized": _normalized,
        "raw": _raw,
        "ema": _ema,
        "expert": _expert,
    },
)
WITHOUT_BASELINE = ("group", "centered", "rloo", "raw")


@dataclass(frozen=True, slots=True)
class AdvantageRule:
    """The advantage that a config names."""

    name: str
    function: AdvantageFunction
    needs_baseline: bool

    def __call__(self, batch: AdvantageBatch, step: int) -> Advantages:
        """Return the advantages of a step (counted from 0).

        Raises `HookError` when the user's own function raises, or does not return one finite number a CoT.
        """
        if not is_code(self.name):
            found = self.function(batch)
            assert isinstance(found, Advantages)
            return found
        with hook("advantage", self.name, step + 1):
            found = self.function(batch, **batch.settings.advantage_args)
        found = found if isinstance(found, Advantages) else unscaled(torch.as_tensor(found).to(batch.reward_B))
        check_values("advantage", self.name, step + 1, found.advantage_B, len(batch.reward_B))
        return found


def advantages_of(settings: Algorithm) -> AdvantageRule:
    """Return the advantage that the settings name. Raises `UserError` for code that cannot be had."""
    name = settings.advantage
    function = ADVANTAGES.resolve(name)
    needs_baseline = name not in WITHOUT_BASELINE and getattr(function, "needs_baseline", True)
    return AdvantageRule(name, function, needs_baseline)
