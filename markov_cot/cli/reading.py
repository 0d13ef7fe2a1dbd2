"""What `markov-cot sample --show-prompt` and `--reader-check` do: what the models read, and whether the reader can."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from markov_cot.cli.quiet import quiet_libraries
from markov_cot.cli.sampling import sample_request, typed_question
from markov_cot.cli.scores import score_cells, score_headings
from markov_cot.cli.tables import print_table
from markov_cot.evaluation.reader_check import ReaderCheck
from markov_cot.evaluation.reading import ShownPrompt, check_reader, shown_prompts
from markov_cot.utils.errors import UserError
from markov_cot.utils.text import visible

CHECKED = 64
"""Problems of the reader's check unless --n says otherwise."""


def run_show_prompt(
    question: str | None,
    choices: tuple[str, ...],
    options: Mapping[str, Any],
    settings: tuple[str, ...],
    *,
    as_json: bool,
) -> None:
    """Prints both contexts of some problems, by default of one."""
    question, choices = typed_question(question, choices, options)
    quiet_libraries()
    found = shown_prompts(sample_request(options, settings), question, choices, options["count"] or 1)
    if as_json:
        print(json.dumps([each.as_json() for each in found], ensure_ascii=False))
        return
    console = Console(markup=False, highlight=False)
    for each in found:
        _print_prompt(console, each)


def run_reader_check(
    question: str | None, options: Mapping[str, Any], settings: tuple[str, ...], *, as_json: bool
) -> None:
    """Prints the reader's ceiling and floor."""
    if question is not None:
        raise UserError("--reader-check: measures on a dataset's problems; leave QUESTION out")
    quiet_libraries()
    name, check = check_reader(sample_request(options, settings), options["count"] or CHECKED)
    if as_json:
        print(json.dumps({"n": check.ceiling.n, "reader": name, **check.metrics()}))
        return
    console = Console(markup=False, highlight=False)
    print_table(console, _check_table(check), visible(f"reader {name}, n = {check.ceiling.n}"))
    for line in check.warnings():
        console.print(visible(line), soft_wrap=True)


def _print_prompt(console: Console, shown: ShownPrompt) -> None:
    for title, text in (("the actor reads", shown.question), *((f"{n} reads", t) for n, t in shown.answers.items())):
        console.print(f"--- {title}", style="bold", soft_wrap=True)
        for line in text.split("\n"):
            console.print(visible(line), soft_wrap=True)
    console.print("---", style="bold")


def _check_table(check: ReaderCheck) -> Table:
    table = Table()
    for column in ("CoT", *score_headings(check.ceiling)):
        table.add_column(column)
    table.add_row("states the answer (ceiling)", *score_cells(check.ceiling))
    table.add_row("is empty (floor)", *score_cells(check.floor))
    return table
