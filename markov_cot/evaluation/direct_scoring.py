"""Scores and writes what models make of items that are asked directly.

Text is encoded as lm-evaluation-harness encodes it: prompt and continuation together, with the special tokens that the
tokenizer writes by itself and no chat template, cut where the prompt alone would end. What is longer than the model's
context loses its beginning.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from markov_cot.data.prompts import AnswerContext
from markov_cot.evaluation.direct_records import DirectRecord, is_finite
from markov_cot.evaluation.direct_tasks import MOST_TOKENS, STOPS, Asked
from markov_cot.evaluation.item_log import ItemLog
from markov_cot.evaluation.records import Likelihood, rounded
from markov_cot.models.memory import Budgets
from markov_cot.models.policy import Policy
from markov_cot.models.roles import Role
from markov_cot.models.scorer import Scorer
from markov_cot.rollouts.sampler import Sampler
from markov_cot.utils.errors import UserError


class DirectScorer:
    """One model: the actor, or the critic, which is the untrained base."""

    def __init__(self, policy: Policy, budgets: Budgets, role: Role) -> None:
        self._policy, self._role = policy, role
        self._scorer, self._sampler = Scorer(policy, budgets), Sampler(policy, budgets)

    def run(
        self, items: Sequence[Asked], log: ItemLog[DirectRecord], batch: int, advance: Callable[[int], None]
    ) -> list[DirectRecord]:
        """Return the records of all items, in their order; those in `log` are not made again.

        A batch that was interrupted half-way is computed whole, because rounding depends on what is computed together.
        """
        for start in range(0, len(items), batch):
            part = items[start : start + batch]
            if any(item.index not in log.done for item in part):
                log.append(record for record in self.records(part) if record.index not in log.done)
            advance(len(part))
        return [log.done[item.index] for item in items]

    def records(self, items: Sequence[Asked]) -> list[DirectRecord]:
        """Return the records of a few items, computed together. Raises `UserError` for a model that gives NaN."""
        scored = [item for item in items if item.continuations]
        by_index = dict(self._scored(scored)) | dict(self._written([i for i in items if not i.continuations]))
        made = [by_index[item.index] for item in items]
        if bad := sum(not is_finite(record) for record in made):
            raise UserError(
                f"model {self._policy.model_name}: finds no finite log-likelihood (NaN or infinity) for {bad} of "
                f"{len(made)} items; check its weights, or use float32 (--set model.dtype=float32)"
            )
        return made

    def _scored(self, items: Sequence[Asked]) -> list[tuple[int, DirectRecord]]:
        pairs = [[encode_pair(self._policy, item.context, text) for text in item.continuations] for item in items]
        fitted = [[self._fitted(*pair) for pair in each] for each in pairs]
        contexts = [context for each in fitted for context, _ in each]
        scores = iter(self._scorer.answers(contexts, self._role).summed())
        made = []
        for item, each in zip(items, fitted, strict=True):
            likelihoods = tuple(Likelihood(rounded(total), greedy) for total, greedy in (next(scores) for _ in each))
            tokens = tuple(len(context.answer_ids) for context, _ in each)
            made.append((item.index, DirectRecord(item.index, likelihoods, tokens, cut=max(cut for _, cut in each))))
        return made

    def _fitted(self, ids: Sequence[int], continuation: Sequence[int]) -> tuple[AnswerContext, int]:
        """What is read, and how many tokens of its beginning were cut off. The last token is not read."""
        room = self._policy.max_length + 1 - len(continuation)
        if room < 1:
            raise UserError(
                f"model {self._policy.model_name}: its context has {self._policy.max_length} tokens, and a text to be "
                f"scored is {len(continuation)} tokens long; leave the task out, naming the others with --task"
            )
        cut = max(0, len(ids) - room)
        kept = tuple(ids[cut:])
        # All but the last token of a prompt is read once for all that is scored after it.
        return AnswerContext(kept, tuple(continuation), len(kept) - 1), cut

    def _written(self, items: Sequence[Asked]) -> list[tuple[int, DirectRecord]]:
        room = self._policy.max_length - MOST_TOKENS
        if items and room < 1:
            raise UserError(
                f"model {self._policy.model_name}: its context has {self._policy.max_length} tokens, and a solution "
                f"may be {MOST_TOKENS} tokens long; leave the task out, naming the others with --task"
            )
        ids = [encode(self._policy, item.context) for item in items]
        texts = self._sampler.greedy_texts([each[-room:] for each in ids], self._role, MOST_TOKENS, STOPS)
        return [
            (item.index, DirectRecord(item.index, text=text, cut=max(0, len(each) - room)))
            for item, each, text in zip(items, ids, texts, strict=True)
        ]


def encode_pair(policy: Policy, context: str, continuation: str) -> tuple[list[int], list[int]]:
    """Return the ids of a prompt and of what comes after it. Spaces at the prompt's end go to the continuation."""
    kept = context.rstrip()
    whole, ids = encode(policy, context + continuation), encode(policy, kept)
    return ids, whole[len(ids) :]


def encode(policy: Policy, text: str) -> list[int]:
    """Return a text's ids, with the special tokens that the tokenizer writes by itself, a BOS as a rule."""
    ids: list[int] = policy.tokenizer(text, verbose=False).input_ids
    return ids
