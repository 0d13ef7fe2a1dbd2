"""How probable a model finds the tokens of given responses, and how many tokens it finds more probable than each.

Shapes: B sequences, A tokens of the longest response, N tokens of all responses, d hidden size, V vocabulary.
Units: nats.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from markov_cot.data.prompts import AnswerContext
from markov_cot.models.batching import pad_left
from markov_cot.models.logprobs import LOGITS_BYTES, answer_hidden, slices_within
from markov_cot.models.policy import Policy
from markov_cot.models.roles import Role

FLOAT32_BYTES = 4


@dataclass(frozen=True, slots=True)
class ResponseScore:
    """What one response scores, summed over its tokens."""

    tokens: int
    nll: float
    """-log p of the response, nats."""
    rank: int
    """Of each token 1 + the number of tokens that are more probable in its place, or the highest rank that counts."""


@torch.no_grad()
def score_responses_in_batches(
    policy: Policy, contexts: Sequence[AnswerContext], role: Role, token_budget: int, highest_rank: int
) -> list[ResponseScore]:
    """Return the scores of any number of responses, which are the contexts' answers, each of a token or more.

    At most `token_budget` tokens, padding included, are read at once, and a context is read whole.
    """
    found: list[ResponseScore] = []
    for part in slices_within([len(c.ids) + len(c.answer_ids) for c in contexts], token_budget):
        found += _score_alike(policy, contexts[part], role, highest_rank)
    return found


def _score_alike(
    policy: Policy, contexts: Sequence[AnswerContext], role: Role, highest_rank: int
) -> list[ResponseScore]:
    """In groups of like length, so that little of them is padding."""
    scores: dict[int, ResponseScore] = {}
    for group in policy.groups_of([len(c.ids) + len(c.answer_ids) for c in contexts]):
        chosen = [contexts[i] for i in group]
        answers = pad_left([c.answer_ids for c in chosen], policy.pad_id, policy.device)
        inside_BA = answers.mask_BT.bool()
        hidden_Nd = answer_hidden(policy, chosen, role)[inside_BA]
        with policy.acting_as(role):
            nll_N, rank_N = _score_tokens(policy, hidden_Nd, answers.ids_BT[inside_BA], highest_rank)
        sizes = [len(c.answer_ids) for c in chosen]
        for i, size, nll_A, rank_A in zip(
            group, sizes, torch.split(nll_N, sizes), torch.split(rank_N, sizes), strict=True
        ):
            scores[i] = ResponseScore(size, float(nll_A.sum()), int(rank_A.sum()))
    return [scores[i] for i in range(len(contexts))]


def _score_tokens(policy: Policy, hidden_Nd: Tensor, token_N: Tensor, highest_rank: int) -> tuple[Tensor, Tensor]:
    """-log p (float64) and rank of each token, on the CPU. Logits exist for a few tokens at a time."""
    at_once = max(1, LOGITS_BYTES // (policy.vocabulary * FLOAT32_BYTES))
    nlls, ranks = [], []
    for hidden, token in zip(torch.split(hidden_Nd, at_once), torch.split(token_N, at_once), strict=True):
        logits_NV = policy.logits(hidden)
        own_N1 = logits_NV.gather(1, token[:, None])
        # Not every device has float64, to add them up in.
        nlls.append((logits_NV.logsumexp(-1) - own_N1.squeeze(1)).cpu().double())
        ranks.append((1 + (logits_NV > own_N1).sum(-1)).clamp(max=highest_rank).cpu())
    return torch.cat(nlls), torch.cat(ranks)
