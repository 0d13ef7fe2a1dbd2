"""The items of an evaluation: a task's dataset, drawn with the seed and cut to what fits into the model's context."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

from markov_cot.config.schema import Config
from markov_cot.data.problem import Problem
from markov_cot.data.registry import load
from markov_cot.data.sampler import sample
from markov_cot.data.splits import Splits
from markov_cot.evaluation.loaded_model import LoadedModel
from markov_cot.evaluation.records import Item
from markov_cot.evaluation.suites import SuiteTask
from markov_cot.grading.extractors import Extractor, default_extractors, get_extractor
from markov_cot.models.policy import Policy
from markov_cot.rewards.readers import Readers, fits_context
from markov_cot.utils.errors import UserError


@dataclass(frozen=True)
class EvalTask:
    """One task, ready to run."""

    task: SuiteTask
    config: Config
    items: list[Item]
    """In the order of the split."""
    extractors: list[Extractor]
    total: int
    """Items in the split."""
    too_long: int
    """Items passed over because they do not fit."""
    splits: Splits

    def items_fingerprint(self) -> str:
        """SHA-256 (hex) of which items of which data these are."""
        which = [self.splits.fingerprint(), self.task.split, [item.index for item in self.items]]
        return hashlib.sha256(json.dumps(which).encode()).hexdigest()


def prepare(
    subject: LoadedModel, task: SuiteTask, config: Config, seed: int, others: Sequence[Config] = ()
) -> EvalTask:
    """Loads a task's data and draws its items: `task.limit` of them, the same for the same seed.

    An item must fit under `config` and under the `others` it is compared with. Raises `UserError` when none is left.
    """
    splits = load(config.data, subject.tokenizer)
    problems = splits.test if task.split == "test" else splits.validation
    if not problems:
        raise UserError(f"dataset {splits.name}: has no {task.split} problems ({splits.note}); pass another --split")
    kind = problems[0].kind
    named = [get_extractor(kind, name) for name in dict.fromkeys(task.extractors)] or default_extractors(kind)
    extractors = [extractor.for_articles(config.data.articles) for extractor in named]
    too_long: list[int] = []
    needs = [(subject.readers(each), each.rollout.length) for each in (config, *others)]

    def fits(index: int) -> bool:
        fitting = all(fits_models(subject.policy, *need, problems[index]) for need in needs)
        if not fitting:
            too_long.append(index)
        return fitting

    chosen = sample(range(len(problems)), task.limit or len(problems), seed, fits)
    if not chosen:
        raise UserError(
            f"dataset {splits.name}: none of its {len(problems)} {task.split} problems fits into the model's "
            f"context of {subject.policy.max_length} tokens; lower rollout.length or data.context_tokens"
        )
    items = [Item(index, problems[index]) for index in sorted(chosen)]
    kinds = {item.problem.kind for item in items}
    if len(kinds) > 1:
        raise UserError(f"dataset {splits.name}: mixes {' and '.join(sorted(kinds))} questions; give one file for each")
    return EvalTask(task, config, items, extractors, len(problems), len(too_long), splits)


def fits_models(policy: Policy, readers: Readers, length: int, problem: Problem) -> bool:
    """Whether every context that evaluation builds of the problem stays within the actor's and the readers'."""
    first, cot = readers.first, [0] * length
    choices = [first.prompts.answer_context(problem, cot, text, newline=False) for text in problem.choices]
    if any(len(choice.ids) + len(choice.answer_ids) > first.policy.max_length for choice in choices):
        return False
    return fits_context(policy, readers, length, problem)
