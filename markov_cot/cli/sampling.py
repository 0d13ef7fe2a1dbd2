"""What `markov-cot sample` does: read the options, print side by side or as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table

from markov_cot.cli.quiet import quiet_libraries
from markov_cot.cli.streams import typed
from markov_cot.config.loading import read_assignments
from markov_cot.evaluation.evaluate import Request
from markov_cot.evaluation.loaded_model import Overrides
from markov_cot.evaluation.samples import Shown, Written, show
from markov_cot.evaluation.suites import SuiteTask
from markov_cot.utils.errors import UserError
from markov_cot.utils.text import visible

INVALID = "(no valid answer)"


def run_sample(
    question: str | None,
    choices: tuple[str, ...],
    options: Mapping[str, Any],
    settings: tuple[str, ...],
    *,
    as_json: bool,
) -> None:
    """Shows samples as asked."""
    question, choices = typed_question(question, choices, options)
    quiet_libraries()
    shown = show(sample_request(options, settings), question, choices, options["count"])
    if as_json:
        print(json.dumps([asdict(each) for each in shown]))
        return
    console = Console(markup=False, highlight=False)
    for each in shown:
        console.print(visible(each.question), soft_wrap=True)
        console.print(_table(each))
        console.print(visible(_legend(each)), soft_wrap=True)


def typed_question(
    question: str | None, choices: Sequence[str], options: Mapping[str, Any]
) -> tuple[str | None, tuple[str, ...]]:
    """Return a typed question and its choices. Raises `UserError` for what does not go together."""
    question = None if question is None else typed(question, "QUESTION")
    if question is not None and (options["dataset"] or not question.strip()):
        raise UserError("QUESTION: give a question or --dataset, not both, and not an empty one")
    if choices and question is None:
        raise UserError("--choice: only with a typed QUESTION")
    return question, tuple(typed(choice, "--choice") for choice in choices)


def sample_request(options: Mapping[str, Any], settings: tuple[str, ...]) -> Request:
    """The options as a request."""
    return Request(
        checkpoint=options["checkpoint"],
        run=options["run"],
        tasks=(SuiteTask(dataset=options["dataset"]),) if options["dataset"] else (),
        task_fields={"split": options["split"], "temperature": options["temperature"] or None},
        seed=options["seed"],
        overrides=Overrides(options["model"], options["data_dir"], read_assignments(settings)),
    )


def _table(shown: Shown) -> Table:
    """A column for each writer, in which the CoT flows as a paragraph does."""
    table = Table(show_lines=True)
    table.add_column("", no_wrap=True)
    for each in shown.written:
        table.add_column(visible(each.writer), overflow="fold")
    table.add_row("CoT", *(visible(each.cot.strip()) for each in shown.written))
    table.add_row("answer", *map(_answer, shown.written))
    if shown.answer is not None:
        table.add_row("log-prob", *map(_logprob, shown.written))
    return table


def _legend(shown: Shown) -> str:
    answer = "answer: given from the CoT alone"
    return answer if shown.answer is None else f"{answer}; log-prob: of the true answer, which is {shown.answer}"


def _answer(written: Written) -> str:
    if written.is_valid is None:
        return "-"
    return visible(written.answer) if written.is_valid else f"{visible(written.answer)} {INVALID}".lstrip()


def _logprob(written: Written) -> str:
    return "-" if written.answer_logprob is None else f"{written.answer_logprob:.3f} nats"
