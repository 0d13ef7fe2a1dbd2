"""Tasks that are asked directly, with the question in view and without a CoT, under lm-evaluation-harness's protocol.

Forms: "endings" scores each choice's text after the question (HellaSwag); "letters" shows the choices and scores their
letters (MMLU); "generate" has a solution written (GSM8K); "loss" scores the text that continues a passage.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

from markov_cot.config.schema import Data
from markov_cot.data.benchmarks.wiki import article_of
from markov_cot.data.dataset import Tokenizer
from markov_cot.data.problem import Problem
from markov_cot.data.registry import load_published
from markov_cot.data.sampler import sample
from markov_cot.data.splits import Published
from markov_cot.evaluation.suites import SuiteTask
from markov_cot.grading.kinds import LETTERS, Kind
from markov_cot.utils.errors import UserError

ENDINGS, BY_LETTER, GENERATE, LOSS = "endings", "letters", "generate", "loss"
KINDS: dict[str, Kind] = {ENDINGS: "choice", BY_LETTER: "choice", GENERATE: "numeric", LOSS: "continuation"}
"""What problems each form is for."""
STOPS = ("Question:", "</s>", "<|im_end|>")
"""Texts that end a solution."""
MOST_TOKENS = 256
"""Of a solution."""
VERSION = 1
"""Of prompts and scores; raised when they would come out differently."""


@dataclass(frozen=True, slots=True)
class Asked:
    """An item as a model sees it."""

    index: int
    """Its position in its split."""
    problem: Problem
    context: str
    continuations: tuple[str, ...]
    """What is scored after the context; empty where a text is written."""

    @property
    def group(self) -> str | None:
        """What it belongs to together with items that are not independent of it: an article."""
        return article_of(self.problem) if self.problem.kind == "continuation" else None


@dataclass(frozen=True)
class DirectTask:
    """One task with its items, ready to run."""

    task: SuiteTask
    form: str
    items: list[Asked]
    total: int
    """Items in the split."""
    split: str
    """As its authors call it."""
    source: str
    note: str

    def fingerprint(self) -> str:
        """SHA-256 (hex) of all that a model sees of the items, and of what is right."""
        seen = [[each.index, each.context, each.continuations, each.problem.answer] for each in self.items]
        return hashlib.sha256(json.dumps(seen).encode()).hexdigest()


def prepare_direct(task: SuiteTask, data: Data, seed: int, tokenizer: Tokenizer) -> DirectTask:
    """Load a task and draw its items: `task.limit` of them, the same for the same seed.

    Shots are the first rows of the published split for examples, or of the one for training. Raises `UserError`.
    """
    form = task.direct
    if form is None:
        raise UserError(f"task {task.title}: has no `direct`; markov-cot eval --suite runs tasks with a CoT")
    found = load_published(data, tokenizer)
    asked = _split(found.splits, ("validation",) if task.split == "validation" else ("test", "validation"))
    if asked is None:
        raise UserError(f"task {task.title}: {found.source} has no {task.split} split; give one, or leave the task out")
    if other := next((p.kind for p in asked.problems if p.kind != KINDS[form]), None):
        raise UserError(f"task {task.title}: `direct: {form}` is for {KINDS[form]} problems, and these are {other}")
    shots = _shots(task, [split for split in found.splits if split is not asked], found.source)
    chosen = sorted(sample(range(len(asked.problems)), task.limit or len(asked.problems), seed, lambda _: True))
    head = heading(form, asked.problems[0]) + "".join(worked(form, shot) for shot in shots)
    items = [ask(form, index, asked.problems[index], head) for index in chosen]
    return DirectTask(task, form, items, len(asked.problems), asked.label, found.source, found.note)


def ask(form: str, index: int, problem: Problem, head: str = "") -> Asked:
    """Return an item as a model sees it; `head` comes before it."""
    if form == LOSS:
        return Asked(index, problem, problem.passage, (f" {problem.answer}",))
    context, answers = head + question_text(form, problem), problem.choices
    if form == BY_LETTER:
        answers = tuple(LETTERS[: len(problem.choices)])
    return Asked(index, problem, context, () if form == GENERATE else tuple(f" {answer}" for answer in answers))


def heading(form: str, problem: Problem) -> str:
    """Return what MMLU's prompts begin with."""
    if form != BY_LETTER or not problem.subject:
        return ""
    subject = problem.subject.replace("_", " ")
    return f"The following are multiple choice questions (with answers) about {subject}.\n\n"


def question_text(form: str, problem: Problem) -> str:
    """Return an item's own part of its prompt."""
    if form == BY_LETTER:
        choices = "".join(f"{letter}. {text}\n" for letter, text in zip(LETTERS, problem.choices, strict=False))
        return f"{problem.question}\n{choices}Answer:"
    return f"Question: {problem.question}\nAnswer:" if form == GENERATE else problem.question


def worked(form: str, problem: Problem) -> str:
    """Return a worked example."""
    answer = problem.answer if form == BY_LETTER else problem.solution or problem.answer
    if form == ENDINGS:
        answer = problem.choices[LETTERS.index(problem.answer)]
    return f"{question_text(form, problem)} {answer}\n\n"


def _shots(task: SuiteTask, others: Sequence[Published], source: str) -> Sequence[Problem]:
    if not task.shots:
        return ()
    if task.direct == LOSS:
        raise UserError(f"task {task.title}: a loss is measured without shots; leave them out")
    examples = _split(others, ("dev", "train"))
    if examples is None or len(examples.problems) < task.shots:
        there = f"{examples.label} has {len(examples.problems)}" if examples else "there is no split for them"
        raise UserError(
            f"task {task.title}: needs {task.shots} worked examples, and {there} in {source}; lower `shots`"
        )
    return examples.problems[: task.shots]


def _split(splits: Sequence[Published], roles: Sequence[str]) -> Published | None:
    """The split of the first of these roles that there is."""
    by_role = {split.role: split for split in reversed(splits)}
    return next((by_role[role] for role in roles if role in by_role), None)
