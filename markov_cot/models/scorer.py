"""Scores CoTs and answers within the memory there is, without gradient.

Shapes: B sequences, L CoT tokens, d hidden size.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from markov_cot.data.prompts import AnswerContext
from markov_cot.models.logprobs import AnswerScores, cot_hidden_in_batches, score_answer_tokens_in_batches
from markov_cot.models.memory import SCORE, Budgets
from markov_cot.models.policy import Policy
from markov_cot.models.response_scores import ResponseScore, score_responses_in_batches
from markov_cot.models.roles import Role


class Scorer:
    """Forwards over any number of sequences, in as many parts as running out of memory has shown to be needed."""

    def __init__(self, policy: Policy, budgets: Budgets) -> None:
        self._policy, self._budgets = policy, budgets

    def answers(self, contexts: Sequence[AnswerContext], role: Role) -> AnswerScores:
        """Return the log-probs of B answers under "actor" or "critic"."""
        size = sum(len(context.ids) + len(context.answer_ids) for context in contexts)
        return self._budgets.within(
            SCORE, size, lambda tokens: score_answer_tokens_in_batches(self._policy, contexts, role, tokens)
        )

    def responses(self, contexts: Sequence[AnswerContext], role: Role, highest_rank: int) -> list[ResponseScore]:
        """Return what the contexts' answers score by their loss and by their tokens' ranks, for a frozen role."""
        size = sum(len(context.ids) + len(context.answer_ids) for context in contexts)
        return self._budgets.within(
            SCORE, size, lambda tokens: score_responses_in_batches(self._policy, contexts, role, tokens, highest_rank)
        )

    def cots(self, contexts: Sequence[Sequence[int]], samples: int, cot_BL: Tensor, role: Role) -> Tensor:
        """Return the hidden states [B, L, d] that predict the CoTs' tokens; each context has `samples` CoTs."""
        repeated = [context for context in contexts for _ in range(samples)]
        size = sum(map(len, contexts)) + cot_BL.numel()
        return self._budgets.within(
            SCORE, size, lambda tokens: cot_hidden_in_batches(self._policy, repeated, cot_BL, role, tokens)
        )
