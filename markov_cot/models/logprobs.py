"""Log-probabilities of CoTs and of answers, in batches of bounded size.

Shapes: B sequences, L CoT tokens, A answer tokens of the longest answer, T padded tokens, d hidden size, V vocabulary.
Units: nats.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from markov_cot.algorithms.losses import KL_ESTIMATORS
from markov_cot.algorithms.types import CotScores
from markov_cot.data.prompts import AnswerContext
from markov_cot.models.batching import Batch, pad_left, pad_right
from markov_cot.models.fused_logprobs import TokenScores
from markov_cot.models.policy import Policy, Prefix
from markov_cot.models.roles import ACTOR, REFERENCE, Role

LOGITS_BYTES = 64 << 20
"""Most memory for one tensor of logits; about four of that size exist at once."""


@dataclass(frozen=True, slots=True)
class AnswerScores:
    """What B answers score, token by token. Units: nats."""

    sum_B: Tensor
    """Log-prob of each answer."""
    greedy_B: Tensor
    """bool: whether each of its tokens is the most probable one."""
    logps: list[Tensor]
    """Log-probs of each answer's own tokens, newline included."""

    @staticmethod
    def joined(parts: Sequence[AnswerScores]) -> AnswerScores:
        """Those of all parts, in turn."""
        return AnswerScores(
            torch.cat([part.sum_B for part in parts]),
            torch.cat([part.greedy_B for part in parts]),
            [logp_A for part in parts for logp_A in part.logps],
        )

    def in_order(self, places: Sequence[int]) -> AnswerScores:
        """With the i-th answer moved to place places[i]."""
        return self.take(sorted(range(len(places)), key=places.__getitem__))

    def take(self, chosen: Sequence[int]) -> AnswerScores:
        """Those of some of the answers."""
        chosen = list(chosen)
        return AnswerScores(self.sum_B[chosen], self.greedy_B[chosen], [self.logps[i] for i in chosen])

    def reduced(self, reduction: str) -> Tensor:
        """Return [B]: "mean" in nats per answer token, or "sum" in nats."""
        if reduction == "sum":
            return self.sum_B
        return self.sum_B / torch.tensor([len(logp_A) for logp_A in self.logps], device=self.sum_B.device)

    def summed(self) -> list[tuple[float, bool]]:
        """Return each answer's log-prob, and whether greedy decoding would write it."""
        return list(zip(self.sum_B.tolist(), self.greedy_B.tolist(), strict=True))


def slices_within(widths: Sequence[int], budget: int) -> Iterator[slice]:
    """Consecutive slices, each of at least one sequence, whose padded size (sequences x widest) is within `budget`."""
    start, widest = 0, 0
    for i, width in enumerate(widths):
        if i > start and (i + 1 - start) * max(widest, width) > budget:
            yield slice(start, i)
            start, widest = i, 0
        widest = max(widest, width)
    if widths:
        yield slice(start, len(widths))


def cot_hidden(
    policy: Policy, contexts: Sequence[Sequence[int]], cot_BL: Tensor, role: Role, *, as_trained: bool = False
) -> Tensor:
    """Hidden states [B, L, d] that predict each token of the CoTs, by a role.

    `contexts` are those of the B sequences; equal ones are read once. With gradient where it is enabled; `as_trained`
    reads even without gradient the way it is read with one, so that both round alike.
    """
    length = cot_BL.shape[1]
    with torch.set_grad_enabled(as_trained or torch.is_grad_enabled()):
        shares_prompts = policy.shares_prompts
    with policy.acting_as(role):
        if not shares_prompts:
            rows = [[*c, *cot] for c, cot in zip(contexts, cot_BL.tolist(), strict=True)]
            # The states that predict the L CoT tokens stand one position before them.
            return policy.hidden(pad_left(rows, policy.pad_id, policy.device))[:, -length - 1 : -1]
        prefix, index_B = _read_once(policy, contexts, as_trained=as_trained)
        first_B1d = prefix.hidden_Pd[index_B, None]
        if length == 1:
            return first_B1d
        ids_BT = cot_BL[:, :-1]
        return torch.cat([first_B1d, policy.extend(prefix, index_B, Batch(ids_BT, torch.ones_like(ids_BT)))], 1)


@torch.no_grad()
def cot_hidden_in_batches(
    policy: Policy, contexts: Sequence[Sequence[int]], cot_BL: Tensor, role: Role, token_budget: int
) -> Tensor:
    """`cot_hidden` without gradient, over any number of CoTs."""
    parts = slices_within(cot_widths(policy, contexts, cot_BL.shape[1]), token_budget)
    return torch.cat([cot_hidden(policy, contexts[part], cot_BL[part], role) for part in parts])


def cot_widths(policy: Policy, contexts: Sequence[Sequence[int]], length: int) -> list[int]:
    """Tokens each CoT costs: its own, and its share of a context that is read once for all that have the same."""
    if not policy.shares_prompts:
        return [length + len(c) for c in contexts]
    sharing = Counter(map(tuple, contexts))
    return [length + -(-len(c) // sharing[tuple(c)]) for c in contexts]


def score_cots(
    policy: Policy,
    hidden_BLd: Tensor,
    reference_BLd: Tensor,
    cot_BL: Tensor,
    kl: str,
    *,
    entropy_grad: bool = False,
) -> CotScores:
    """Scores sampled CoTs from hidden states of the actor, with gradient, and of the reference, without.

    `kl` is "full" for the exact divergence over the vocabulary, or the name of a sample estimator. The entropy is
    without gradient unless `entropy_grad`.
    """
    shape = cot_BL.shape
    with torch.no_grad(), policy.acting_as(REFERENCE):
        reference_NV = policy.cot_logp(reference_BLd).flatten(0, 1)
    with policy.acting_as(ACTOR):
        logits_NV = policy.cot_logits(hidden_BLd).flatten(0, 1)
    reference_BL = reference_NV.gather(1, cot_BL.reshape(-1, 1)).view(shape)
    scores = TokenScores.apply(logits_NV, reference_NV, cot_BL.flatten())  # type: ignore[no-untyped-call]
    logp_BL, full_BL, entropy_BL = (each.view(shape) for each in scores)
    kl_BL = full_BL if kl == "full" else KL_ESTIMATORS[kl](logp_BL, reference_BL)
    return CotScores(logp_BL, reference_BL, kl_BL, entropy_BL if entropy_grad else entropy_BL.detach())


@torch.no_grad()
def cot_logp(policy: Policy, hidden_BLd: Tensor, cot_BL: Tensor, role: Role = ACTOR) -> Tensor:
    """The log-prob [B, L] of each CoT token alone by a role, from its hidden states."""
    with policy.acting_as(role):
        return _at(policy.cot_logp(hidden_BLd), cot_BL)


def score_answers(
    policy: Policy, contexts: Sequence[AnswerContext], role: Role, reduction: str, *, grad: bool = False
) -> Tensor:
    """log-prob [B] of each context's answer (its newline included) under "actor" or "critic".

    `reduction` is "mean" (nats per answer token) or "sum" (nats).
    """
    with torch.enable_grad() if grad else torch.no_grad():
        return score_answers_from(policy, answer_hidden(policy, contexts, role), contexts, role, reduction)


def answer_hidden(policy: Policy, contexts: Sequence[AnswerContext], role: Role) -> Tensor:
    """Hidden states [B, A, d] that predict the answers' tokens, which end at the last position."""
    with policy.acting_as(role):
        if not _have_prompts(policy, contexts):
            return _whole_answer_hidden(policy, contexts)
        prefix, index_B = _read_once(policy, [c.ids[: c.prompt_length] for c in contexts])
        return _continued_answer_hidden(policy, prefix, index_B, contexts)


def _have_prompts(policy: Policy, contexts: Sequence[AnswerContext]) -> bool:
    return policy.shares_prompts and all(c.prompt_length for c in contexts)


def _whole_answer_hidden(policy: Policy, contexts: Sequence[AnswerContext]) -> Tensor:
    batch = pad_left([_read(c) for c in contexts], policy.pad_id, policy.device)
    return policy.hidden(batch)[:, -max(len(c.answer_ids) for c in contexts) :]


def _continued_answer_hidden(
    policy: Policy, prefix: Prefix, index_B: Tensor, contexts: Sequence[AnswerContext]
) -> Tensor:
    """The i-th context continues prompt index_B[i] of the prefix."""
    rest = pad_right([_read(c)[c.prompt_length :] for c in contexts], policy.pad_id, policy.device)
    hidden_BTd = policy.extend(prefix, index_B, rest)
    # The last A states of each row; one that is shorter repeats its first, before its answer begins.
    longest = max(len(c.answer_ids) for c in contexts)
    place_BA = rest.mask_BT.sum(1, keepdim=True) + torch.arange(-longest, 0, device=policy.device)
    return hidden_BTd.take_along_dim(place_BA.clamp(min=0)[..., None], 1)


def _read(context: AnswerContext) -> list[int]:
    """What is read of a context and its answer, whose last token predicts nothing that is asked for."""
    return [*context.ids, *context.answer_ids][:-1]


def score_answers_from(
    policy: Policy, hidden_BAd: Tensor, contexts: Sequence[AnswerContext], role: Role, reduction: str
) -> Tensor:
    """`score_answers` from their hidden states."""
    return score_answer_tokens(policy, hidden_BAd, contexts, role).reduced(reduction)


@torch.no_grad()
def score_answer_tokens_in_batches(
    policy: Policy, contexts: Sequence[AnswerContext], role: Role, token_budget: int
) -> AnswerScores:
    """`score_answer_tokens` over any number of contexts."""
    widths = [len(c.ids) + len(c.answer_ids) for c in contexts]
    parts = [_score_alike(policy, contexts[part], role) for part in slices_within(widths, token_budget)]
    if not parts:
        none_B = torch.zeros(0, device=policy.device)
        return AnswerScores(none_B, none_B.bool(), [])
    return AnswerScores.joined(parts)


def _score_alike(policy: Policy, contexts: Sequence[AnswerContext], role: Role) -> AnswerScores:
    """`score_answer_tokens` in groups of like length, so that little of them is padding; prompts are read once."""
    has_prompts = _have_prompts(policy, contexts)
    lengths = [len(c.ids) + len(c.answer_ids) - has_prompts * c.prompt_length for c in contexts]
    groups = policy.groups_of(lengths)
    with policy.acting_as(role):
        if has_prompts:
            prefix, index_B = _read_once(policy, [c.ids[: c.prompt_length] for c in contexts])
        parts = []
        for group in groups:
            chosen = [contexts[i] for i in group]
            if has_prompts:
                hidden_BAd = _continued_answer_hidden(policy, prefix, index_B[group], chosen)
            else:
                hidden_BAd = _whole_answer_hidden(policy, chosen)
            parts.append(score_answer_tokens(policy, hidden_BAd, chosen, role))
    return AnswerScores.joined(parts).in_order([i for group in groups for i in group])


def score_answer_tokens(
    policy: Policy, hidden_BAd: Tensor, contexts: Sequence[AnswerContext], role: Role
) -> AnswerScores:
    """Return the log-prob of every token of each answer, from the hidden states that predict them.

    With gradient where it is enabled. Logits exist for a few answers at a time.
    """
    sums, greedy, logps = [], [], []
    for rows in slices_within([hidden_BAd.shape[1] * policy.vocabulary * 4] * len(contexts), LOGITS_BYTES):
        answer_BA = pad_left([c.answer_ids for c in contexts[rows]], policy.pad_id, policy.device)
        with policy.acting_as(role):
            logp_BAV = policy.answer_logp(hidden_BAd[rows, -answer_BA.ids_BT.shape[1] :])
        inside_BA = answer_BA.mask_BT.bool()
        logp_BA = _at(logp_BAV, answer_BA.ids_BT)
        sums.append(logp_BA.where(inside_BA, logp_BA.new_zeros(())).sum(1))
        greedy.append(((logp_BAV.argmax(-1) == answer_BA.ids_BT) | ~inside_BA).all(1))
        logps += [logp_A[-len(c.answer_ids) :] for logp_A, c in zip(logp_BA, contexts[rows], strict=True)]
    return AnswerScores(torch.cat(sums), torch.cat(greedy), logps)


def _read_once(policy: Policy, prompts: Sequence[Sequence[int]], *, as_trained: bool = False) -> tuple[Prefix, Tensor]:
    """The different ones among B prompts, read, and which of them each sequence continues from [B]."""
    different = {prompt: i for i, prompt in enumerate(dict.fromkeys(map(tuple, prompts)))}
    prefix = policy.read(pad_left(list(different), policy.pad_id, policy.device), as_trained=as_trained)
    return prefix, torch.tensor([different[tuple(prompt)] for prompt in prompts], device=policy.device)


def _at(logp_BLV: Tensor, ids_BL: Tensor) -> Tensor:
    return logp_BLV.gather(-1, ids_BL[..., None]).squeeze(-1)
