"""Reward forms: from the log-probs of an answer's tokens to one number a CoT.

Shapes: B CoTs, A tokens of the longest answer. Units: nats.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from markov_cot.config.schema import Reward
from markov_cot.models.logprobs import AnswerScores
from markov_cot.utils.plugins import Registry

LOGPROB = "logprob"

Form = Callable[..., Tensor]
"""(log-probs [B, A], 0 after an answer's end; bool mask [B, A] of its tokens; **reward.form_args) -> reward [B].

Differentiable, where the actor-reward term is used.
"""

FORMS: Registry[Form] = Registry("reward form", {})
"""Those besides `logprob`, which is what the scores are reduced to by themselves."""


def rewards_of(scores: AnswerScores, config: Reward) -> Tensor:
    """Return the reward [B] of each answer's scores in the configured form."""
    if config.form == LOGPROB:
        return scores.reduced(config.reduction)
    form = partial(FORMS.resolve(config.form), **config.form_args)
    logp_BA = pad_sequence(scores.logps, batch_first=True)
    reward_B: Tensor = form(logp_BA, _mask(scores.logps, logp_BA))
    return reward_B


def _mask(logps: Sequence[Tensor], logp_BA: Tensor) -> Tensor:
    return pad_sequence([logp_A.new_ones(len(logp_A)) for logp_A in logps], batch_first=True).to(logp_BA.device).bool()
