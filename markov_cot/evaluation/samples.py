"""`markov-cot sample`: what base and checkpoint write about the same questions, and what is answered from it alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markov_cot.config.schema import Config
from markov_cot.data.problem import Problem
from markov_cot.data.templates import question_text
from markov_cot.evaluation.evaluate import Request, find_source, reference_source, writing_of
from markov_cot.evaluation.loaded_model import LoadedModel, ModelSource
from markov_cot.evaluation.locate import BASE
from markov_cot.evaluation.records import Item
from markov_cot.evaluation.runner import Runner
from markov_cot.evaluation.suites import SuiteTask
from markov_cot.evaluation.task import fits_models, prepare
from markov_cot.grading.extractors import PRIMARY, extract
from markov_cot.grading.kinds import LETTERS, Kind
from markov_cot.utils.errors import UserError

TYPED = "typed"


@dataclass(frozen=True, slots=True)
class Written:
    """One writer's CoT and what was answered from it."""

    writer: str
    """"base" or a checkpoint's name."""
    cot: str
    answer: str
    """Empty for continuations, which are scored, not written."""
    is_valid: bool | None
    """Whether an answer can be read out of it, by the extractor that counts; None for continuations."""
    answer_logprob: float | None
    """Of the true answer, nats; None for a typed question, which has none."""


@dataclass(frozen=True, slots=True)
class Shown:
    """One question and what each writer made of it."""

    question: str
    """With passage and choices."""
    answer: str | None
    """The true one; None for a typed question."""
    written: list[Written]


def show(request: Request, question: str | None, choices: Sequence[str], count: int) -> list[Shown]:
    """The base beside the request's checkpoint, on a typed question or on `count` problems of the request's dataset.

    Raises `UserError`, as where the question is longer than the model's context.
    """
    source = find_source(request, request.checkpoint, lambda _: None)
    base = source if source.ref.folder is None else reference_source(request, source, BASE, lambda _: None)
    sources = [base] if source is base else [base, source]
    shown = take(request, source, question, choices, count)
    columns = [_write(shown, each, request.seed) for each in sources]
    return [
        Shown(question_text(item.problem), item.problem.answer or None, [column[i] for column in columns])
        for i, item in enumerate(shown.items)
    ]


@dataclass(frozen=True)
class Taken:
    """Some items, and the model that is shown them."""

    source: ModelSource
    task: SuiteTask
    config: Config
    subject: LoadedModel
    items: list[Item]


def take(request: Request, source: ModelSource, question: str | None, choices: Sequence[str], count: int) -> Taken:
    """A typed question as an item, or `count` items of the request's dataset, and `source` loaded.

    Raises `UserError`, as where the question is longer than the model's context.
    """
    task = (request.tasks or (source.default_task(),))[0].model_copy(update={"limit": count, **request.task_fields})
    config = source.config(task)
    subject = LoadedModel(source, config)
    if question is None:
        items = prepare(subject, task, config, request.seed).items
    else:
        items = [_typed_item(subject, config, question, choices)]
    return Taken(source, task, config, subject, items)


def _typed_item(subject: LoadedModel, config: Config, question: str, choices: Sequence[str]) -> Item:
    """A typed question as an item. Raises `UserError` where it has one choice or too many, or does not fit."""
    if len(choices) == 1 or len(choices) > len(LETTERS):
        raise UserError(f"--choice: give 2 to {len(LETTERS)} of them, or none")
    kind: Kind = "choice" if choices else "numeric"
    problem = Problem(TYPED, question, answer="", kind=kind, choices=tuple(choices))
    if not fits_models(subject.policy, subject.readers(config), config.rollout.length, problem):
        raise UserError(
            f"the question is longer than the model's context of {subject.policy.max_length} tokens allows; shorten it"
        )
    return Item(0, problem)


def _write(shown: Taken, source: ModelSource, seed: int) -> list[Written]:
    config = source.config(shown.task)
    writing = writing_of(shown.task, config, seed, source.writer)
    runner = Runner(shown.subject.policy, shown.subject.readers(config), writing)
    written = []
    for item in shown.items:
        sample = runner.records([item])[0].samples[0]
        logprob = sample.answer_logprob if item.problem.answer else None
        valid = _is_valid(item.problem, sample.answer)
        written.append(Written(source.ref.name, sample.cot, sample.answer, valid, logprob))
    return written


def _is_valid(problem: Problem, answer: str) -> bool | None:
    if problem.kind == "continuation":
        return None
    return extract(PRIMARY[problem.kind], answer, problem.choices) is not None
