"""Reward forms: from the log-probs of an answer's tokens to one number a CoT.

Shapes: B CoTs, A tokens of the longest answer. Units: nats.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from markov_cot.config.reward import Reward
from markov_cot.models.logprobs import AnswerScores
from markov_cot.utils.plugins import Registry

LOGPROB, GAIN = "logprob", "gain"

Form = Callable[..., Tensor]
"""(log-probs [B, A], 0 after an answer's end; bool mask [B, A] of its tokens; **reward.form_args) -> reward [B].

Differentiable, where the actor-reward term is used.
"""


def prob(logp_BA: Tensor, mask_BA: Tensor) -> Tensor:
    """The probability of the answer, exp(sum_t log p_t), between 0 and 1. Returns [B].

    Source: VeriFree (arXiv 2505.21493), whose reward it is.
    """
    return logp_BA.sum(1).exp()


def mean_prob(logp_BA: Tensor, mask_BA: Tensor) -> Tensor:
    """The mean of the answer's token probabilities, mean_t p_t, between 0 and 1. Returns [B].

    One improbable token costs at most 1 / A, where it costs the log-prob any number of nats. Source: RLPR (arXiv
    2506.18254).
    """
    return (logp_BA.exp() * mask_BA).sum(1) / mask_BA.sum(1)


FORMS: Registry[Form] = Registry("reward form", {"prob": prob, "mean_prob": mean_prob})
"""Those besides `logprob`, which is what the scores are reduced to by themselves, and `gain`, which is that less a
constant of the problem."""


def rewards_of(scores: AnswerScores, config: Reward) -> Tensor:
    """Return the reward [B] of each answer's scores in the configured form; of `gain`, what the CoT decides."""
    if config.form in (LOGPROB, GAIN):
        return scores.reduced(config.reduction)
    if not scores.logps:
        return scores.sum_B
    form = partial(FORMS.resolve(config.form), **config.form_args)
    logp_BA = pad_sequence(scores.logps, batch_first=True)
    reward_B: Tensor = form(logp_BA, _mask(scores.logps, logp_BA))
    return reward_B


def _mask(logps: Sequence[Tensor], logp_BA: Tensor) -> Tensor:
    return pad_sequence([logp_A.new_ones(len(logp_A)) for logp_A in logps], batch_first=True).to(logp_BA.device).bool()
