"""Losses as pure functions on tensors: each returns one value per sequence or per token, without reduction.

`loss_terms` adds them with the step's *global* counts as denominators, so a gradient accumulated over micro-batches
does not depend on how the B sequences were cut.

Shapes: B sequences, L CoT tokens, N positions, V vocabulary. Units: nats.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from markov_cot.algorithms.types import Advantages, CotScores, FloatB, FloatBL, FloatNV
from markov_cot.config.schema import Algorithm
from markov_cot.utils.hooks import HookError, hook
from markov_cot.utils.plugins import Registry, is_code

PolicyLoss = Callable[..., Tensor]
"""(log-probs [B, L], those before the update [B, L], advantages [B], weight_BL=) -> loss of each sequence [B]."""
KlEstimator = Callable[[Tensor, Tensor], Tensor]


ROUNDING = 1e-3
"""Nats that a token's log-probs may differ by when sampled and when scored and still count as equal.

Some hundred times what float32 rounds, so that no float32 run depends on that, and a fiftieth of what bfloat16 rounds.
"""


def importance_weight(old_logp_BL: FloatBL, sampler_logp_BL: FloatBL, cap: float) -> FloatBL:
    """min(u_old(c_t) / u_sampler(c_t), cap) of each token, a constant; exactly 1 within `ROUNDING`. Returns [B, L].

    u_old is the policy before the update as the training forward computes it, u_sampler the same parameters as the
    decoder that drew the tokens computed them. A mean over drawn tokens, each with its weight, is one over u_old's
    choices but for what the cap takes off, which keeps its variance finite. Sources: Ionides, Truncated Importance
    Sampling (2008); rho-bar of V-trace (arXiv 1802.01561, section 4.1); per token and between sampler and trainer,
    Yao et al., Your Efficient RL Framework Secretly Brings You Off-Policy RL Training (2025).
    """
    gap_BL = (old_logp_BL - sampler_logp_BL).detach()
    return gap_BL.exp().clamp_(max=cap).masked_fill_(gap_BL.abs() <= ROUNDING, 1.0)


def policy_gradient(
    logp_BL: FloatBL, old_logp_BL: FloatBL, advantage_B: FloatB, *, weight_BL: FloatBL | None = None
) -> FloatB:
    """REINFORCE with the token mean: -A_i * mean_t w_t log u(c_t). Returns [B].

    w_t is 1 unless given. `old_logp_BL` takes part in off-policy losses only. Source: arXiv 2404.18988, whose code also
    takes the mean.
    """
    weighted_BL = logp_BL if weight_BL is None else weight_BL.detach() * logp_BL
    return -advantage_B.detach() * weighted_BL.mean(1)


def ppo(
    logp_BL: FloatBL,
    old_logp_BL: FloatBL,
    advantage_B: FloatB,
    clip: float = 0.2,
    clip_high: float | None = None,
    *,
    weight_BL: FloatBL | None = None,
) -> FloatB:
    """-mean_t w_t min(rho_t A_i, clip(rho_t, 1 - clip, 1 + clip_high) A_i), rho_t = u(c_t) / u_old(c_t). Returns [B].

    u_old is the policy before the step's first update, token by token; w_t, 1 unless given, puts right that another
    computation of it drew the tokens. `clip_high` is `clip` unless given.
    Source: PPO (arXiv 1707.06347, eq. 7); the wider upper bound is DAPO's (arXiv 2503.14476).
    """
    advantage_B1 = advantage_B.detach()[:, None]
    ratio_BL = (logp_BL - old_logp_BL.detach()).exp()
    clipped_BL = ratio_BL.clamp(1 - clip, 1 + (clip if clip_high is None else clip_high))
    gain_BL = torch.minimum(ratio_BL * advantage_B1, clipped_BL * advantage_B1)
    return -(gain_BL if weight_BL is None else weight_BL.detach() * gain_BL).mean(1)


def full_kl(logp_NV: FloatNV, reference_logp_NV: FloatNV) -> Tensor:
    """Exact KL(u || u') = sum_v u(v) (log u(v) - log u'(v)) at each of N positions, of whatever shape. Returns N."""
    return (logp_NV.exp() * (logp_NV - reference_logp_NV)).sum(-1)


def k1(logp_BL: FloatBL, reference_logp_BL: FloatBL) -> FloatBL:
    """Sample estimate log u(c_t) - log u'(c_t): unbiased, may be negative. Returns [B, L].

    Differentiated as it stands it would have a gradient of mean zero, so its gradient is that of half its square,
    which on the policy's own samples is an unbiased estimate of the KL's gradient.
    """
    ratio = logp_BL - reference_logp_BL.detach()
    half_square = 0.5 * ratio.square()
    return ratio.detach() + half_square - half_square.detach()


def k3(logp_BL: FloatBL, reference_logp_BL: FloatBL) -> FloatBL:
    """Sample estimate exp(-x) - 1 + x with x = log u - log u': unbiased, never negative. Returns [B, L].

    The form GRPO uses (arXiv 2402.03300, eq. 4); its gradient is low in variance but biased away from the reference.
    """
    ratio = logp_BL - reference_logp_BL.detach()
    return torch.expm1(-ratio) + ratio


def entropy(logp_NV: FloatNV) -> Tensor:
    """-sum_v u(v) log u(v) at each of N positions, of whatever shape. Returns N."""
    return -(logp_NV.exp() * logp_NV).sum(-1)


@dataclass(frozen=True, slots=True)
class Weights:
    """Coefficients of the loss's terms."""

    kl: float
    actor_reward: float
    entropy: float = 0.0


@dataclass(frozen=True, slots=True)
class Counts:
    """Denominators of a whole step, over all micro-batches and processes."""

    live: int
    total: int


@dataclass(frozen=True, slots=True)
class LossTerms:
    """Unweighted terms of a micro-batch's share of the step's loss; scalars with gradient."""

    policy: Tensor
    kl: Tensor
    actor_reward: Tensor
    entropy: Tensor

    def total(self, weights: Weights) -> Tensor:
        """The weighted sum that is differentiated; entropy is a bonus."""
        regular = self.policy + weights.kl * self.kl - weights.entropy * self.entropy
        return regular + weights.actor_reward * self.actor_reward


def loss_terms(
    policy_loss: PolicyLoss,
    scores: CotScores,
    old_logp_BL: FloatBL,
    advantages: Advantages,
    actor_reward_B: FloatB | None,
    counts: Counts,
    *,
    weight_BL: FloatBL | None = None,
) -> LossTerms:
    """The step's loss terms, summed over these sequences and divided by the step's counts.

    policy:       sum over live sequences of the policy loss / number of live sequences
    kl, entropy:  sum over all sequences of their mean_t / number of sequences
    actor_reward: -sum over live sequences of r_i / sigma_g / number of live sequences, r_i scored by the actor with
                  gradient; sigma_g is a constant (the mean of self-standardised advantages has no gradient at all).

    `weight_BL` weighs the tokens of the policy loss alone.
    """
    live = max(counts.live, 1)
    per_sequence_B = policy_loss(scores.logp_BL, old_logp_BL, advantages.advantage_B, weight_BL=weight_BL)
    zero = per_sequence_B.new_zeros(())
    actor_reward = zero
    if actor_reward_B is not None:
        actor_reward = -(actor_reward_B / advantages.sigma_B).where(advantages.live_B, zero).sum() / live
    return LossTerms(
        policy=per_sequence_B.where(advantages.live_B, zero).sum() / live,
        kl=scores.kl_BL.mean(1).sum() / counts.total,
        actor_reward=actor_reward,
        entropy=scores.entropy_BL.mean(1).sum() / counts.total,
    )


POLICY_LOSSES: Registry[PolicyLoss] = Registry("loss", {"policy_gradient": policy_gradient, "ppo": ppo})
KL_ESTIMATORS: dict[str, KlEstimator] = {"k1": k1, "k3": k3}


def policy_loss_of(settings: Algorithm) -> PolicyLoss:
    """Return the policy loss that the settings name. Raises `UserError` for code that cannot be had.

    The user's own raises `HookError` when it raises, or does not return a loss of each sequence.
    """
    function = POLICY_LOSSES.resolve(settings.loss)
    if settings.loss == "ppo":
        return partial(function, clip=settings.clip, clip_high=settings.clip_high)
    if not is_code(settings.loss):
        return function

    def own(logp_BL: Tensor, old_logp_BL: Tensor, advantage_B: Tensor, *, weight_BL: Tensor | None = None) -> Tensor:
        with hook("loss", settings.loss):
            loss_B = function(logp_BL, old_logp_BL, advantage_B, weight_BL=weight_BL, **settings.loss_args)
            if not isinstance(loss_B, Tensor) or loss_B.shape != advantage_B.shape:
                raise HookError(f"loss {settings.loss}: must return a tensor of shape {tuple(advantage_B.shape)}")
        return loss_B

    return own
