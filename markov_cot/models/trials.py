"""Trials of the ways to read, on a few tokens, when a model is loaded. What fails is ruled out.

`rollouts.path_check` tries them again on a run's own contexts.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import torch
from torch import Tensor

from markov_cot.models.agreement import Expected, fault_of, usual_ids
from markov_cot.models.batching import Batch, pad_left
from markov_cot.models.forwards import Forwards
from markov_cot.models.paths import ADAPTED, BY_HAND, FOLDED, PADDED, SHARED

logger = logging.getLogger(__name__)

LENGTHS = (7, 3)
"""Of the rows that are read."""
WITH = {
    ADAPTED: "from adapters added in fewer products",
    FOLDED: "from adapters folded into its weights",
    PADDED: "with padding",
    SHARED: "from keys and values kept",
    BY_HAND: "from layers computed by hand",
}


@torch.no_grad()
def try_paths(forwards: Forwards) -> None:
    """Rules out the paths that compute something else than transformers' and PEFT's own modules, or fail."""

    def attempt(path: str, right: Callable[[], bool]) -> None:
        if fault := fault_of(right):
            forwards.rule_out(path, reason=f"{forwards.name} {fault} {WITH[path]}")

    probe = pad_left([usual_ids(forwards.vocabulary, range(n)) for n in LENGTHS], 0, forwards.device)
    alone = [_row(probe, i) for i in range(len(LENGTHS))]
    with forwards.by_plain_modules():
        right = Expected.of(forwards.embeddings, lambda: _read_alone(forwards, alone))
    forwards.paths.ruled_out.add(BY_HAND)  # until the ways that it builds on are settled
    attempt(ADAPTED, lambda: right.agrees(_read_alone(forwards, alone)))
    attempt(FOLDED, lambda: right.agrees(_read_folded(forwards, alone)))
    attempt(PADDED, lambda: right.agrees(_read_padded(forwards, probe)))
    if forwards.checkpoints:
        logger.warning("model.gradient_checkpointing keeps no keys and values: updates read prompts for each sample")
    if forwards.unshareable:
        forwards.rule_out(SHARED, reason=f"{forwards.name} {forwards.unshareable}")
    elif forwards.paths.allow(PADDED):
        attempt(SHARED, lambda: right.at_the_end().agrees(_read_shared(forwards, probe)))
    forwards.paths.ruled_out.discard(BY_HAND)
    if forwards.plain_layers:
        attempt(BY_HAND, lambda: _right_by_hand(forwards, probe, right))


def _right_by_hand(forwards: Forwards, probe: Batch, right: Expected) -> bool:
    with forwards.folded():
        if not right.agrees(_read_padded(forwards, probe)):
            return False
        return not forwards.paths.allow(SHARED) or right.at_the_end().agrees(_read_shared(forwards, probe))


def _read_alone(forwards: Forwards, rows: list[Batch]) -> list[Tensor]:
    return [forwards.hidden(row) for row in rows]


def _read_folded(forwards: Forwards, rows: list[Batch]) -> list[Tensor]:
    with forwards.folded():
        return _read_alone(forwards, rows)


def _read_padded(forwards: Forwards, probe: Batch) -> list[Tensor]:
    hidden_BTd = forwards.hidden(probe)
    return [hidden_BTd[i, -n:][None] for i, n in enumerate(LENGTHS)]


def _read_shared(forwards: Forwards, probe: Batch) -> list[Tensor]:
    """Last hidden state of each of the probe's rows, each prompt's last token read after the rest of it."""
    index_B = torch.arange(len(LENGTHS), device=forwards.device)
    prefix = forwards.read(Batch(probe.ids_BT[:, :-1], probe.mask_BT[:, :-1]))
    last = Batch(probe.ids_BT[:, -1:], probe.mask_BT[:, -1:])
    return list(forwards.extend(prefix, index_B, last)[:, None, -1])


def _row(batch: Batch, i: int) -> Batch:
    return Batch(batch.ids_BT[i : i + 1, -LENGTHS[i] :], batch.mask_BT[i : i + 1, -LENGTHS[i] :])
