"""What several test files compose from the package's parts."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from markov_cot.algorithms.types import CotScores
from markov_cot.models.batching import Batch
from markov_cot.models.logprobs import cot_hidden, score_cots
from markov_cot.models.policy import Policy


def score(policy: Policy, contexts: Sequence[Sequence[int]], cot_BL: Tensor, kl: str = "full") -> CotScores:
    """CoTs scored from their contexts, with gradient where it is enabled."""
    with torch.no_grad():
        reference_BLd = cot_hidden(policy, contexts, cot_BL, "critic")
    return score_cots(policy, cot_hidden(policy, contexts, cot_BL, "actor"), reference_BLd, cot_BL, kl)


def last_logits(policy: Policy, batch: Batch, keep: int) -> Tensor:
    """Logits at the last positions of whole contexts, [B, keep, V]."""
    return policy.logits(policy.hidden(batch)[:, -keep:])
