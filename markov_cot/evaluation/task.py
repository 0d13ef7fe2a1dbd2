"""The items of an evaluation: a task's dataset, drawn with the seed and cut to what fits into the model's context."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field

from markov_cot.config.schema import Config
from markov_cot.data.comparison import swapped
from markov_cot.data.problem import Problem
from markov_cot.data.registry import load
from markov_cot.data.sampler import sample
from markov_cot.data.splits import Splits
from markov_cot.evaluation.loaded_model import LoadedModel
from markov_cot.evaluation.preference import Labels, OtherOrder, labels_of
from markov_cot.evaluation.records import Item, Record
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
    mirrored: list[Item] = field(default_factory=list)
    """Of comparisons: each item with its responses in the other order, at an index behind the split's."""
    labels: Labels | None = None
    """Of comparisons."""

    def other_order(self, records: Sequence[Record]) -> OtherOrder | None:
        """The records of `mirrored`, where there are such."""
        return OtherOrder(self.mirrored, records, self.labels) if self.labels else None

    def items_fingerprint(self) -> str:
        """SHA-256 (hex) of which items of which data these are."""
        which = [self.splits.fingerprint(), self.task.split, [item.index for item in self.items]]
        return hashlib.sha256(json.dumps(which).encode()).hexdigest()


def prepare(
    subject: LoadedModel, task: SuiteTask, config: Config, seed: int, others: Sequence[Config] = ()
) -> EvalTask:
    """Loads a task's data and draws its items: `task.limit` of them, the same for the same seed.

    An item must fit under `config` and under the `others` it is compared with, a comparison in both orders. Raises
    `UserError` when none is left.
    """
    # The labels that are counted, and what names the data in caches, do not depend on what training adds to them.
    splits = load(config.data.model_copy(update={"swap": False}), subject.tokenizer)
    problems = splits.test if task.split == "test" else splits.validation
    if not problems:
        raise UserError(f"dataset {splits.name}: has no {task.split} problems ({splits.note}); pass another --split")
    kind = problems[0].kind
    named = [get_extractor(kind, name) for name in dict.fromkeys(task.extractors)] or default_extractors(kind)
    extractors = [extractor.for_articles(config.data.articles) for extractor in named]
    too_long: list[int] = []
    needs = [(subject.readers(each), each.rollout.length) for each in (config, *others)]

    def fits(index: int) -> bool:
        shown = [problems[index], *(swapped(each) for each in (problems[index],) if each.pairs)]
        fitting = all(fits_models(subject.policy, *need, problem) for need in needs for problem in shown)
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
    mirrored = [Item(len(problems) + item.index, swapped(item.problem)) for item in items if item.problem.pairs]
    labels = labels_of(splits, task.split) if mirrored else None
    return EvalTask(task, config, items, extractors, len(problems), len(too_long), splits, mirrored, labels)


def fits_models(policy: Policy, readers: Readers, length: int, problem: Problem) -> bool:
    """Whether every context that evaluation builds of the problem stays within the actor's and the readers'."""
    first, cot = readers.first, [0] * length
    choices = [first.prompts.answer_context(problem, cot, text, newline=False) for text in problem.choices]
    if any(len(choice.ids) + len(choice.answer_ids) > first.policy.max_length for choice in choices):
        return False
    return fits_context(policy, readers, length, problem)
