"""What several test files compose from the package's parts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from markov_cot.algorithms.types import CotScores
from markov_cot.config.schema import Tracking
from markov_cot.models.batching import Batch
from markov_cot.models.logprobs import cot_hidden, score_cots
from markov_cot.models.policy import Policy
from markov_cot.tracking.base import RunInfo
from markov_cot.tracking.multi import MultiTracker, open_trackers


def score(policy: Policy, contexts: Sequence[Sequence[int]], cot_BL: Tensor, kl: str = "full") -> CotScores:
    """CoTs scored from their contexts, with gradient where it is enabled."""
    with torch.no_grad():
        reference_BLd = cot_hidden(policy, contexts, cot_BL, "critic")
    return score_cots(policy, cot_hidden(policy, contexts, cot_BL, "actor"), reference_BLd, cot_BL, kl)


def last_logits(policy: Policy, batch: Batch, keep: int) -> Tensor:
    """Logits at the last positions of whole contexts, [B, keep, V]."""
    return policy.logits(policy.hidden(batch)[:, -keep:])


def open_tracker(folder: Path, last: int, rollbacks: int = 0) -> MultiTracker:
    """A run's log and TensorBoard, continued after step `last`."""
    return open_trackers(RunInfo(folder.name, folder, {}, "sums", last), Tracking(), rollbacks)
