"""What `markov-cot transfer` does: read the options, show progress, print a table or JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from markov_cot.analysis.transfer import Transfer, transfer
from markov_cot.analysis.transfer_files import as_json as document_of
from markov_cot.analysis.transfer_files import write
from markov_cot.cli.evaluating import overrides_of, progress
from markov_cot.cli.quiet import quiet_libraries
from markov_cot.cli.signals import ending_at_once
from markov_cot.cli.tables import estimate_cell, plain_table, print_table
from markov_cot.config.reward import OWN_READERS
from markov_cot.evaluation.evaluate import Request
from markov_cot.evaluation.locate import BASE
from markov_cot.evaluation.statistics import Estimate, small_sample_note
from markov_cot.evaluation.suites import SuiteTask
from markov_cot.utils.errors import UserError
from markov_cot.utils.text import visible


def run_transfer(run: str | None, options: Mapping[str, Any], settings: tuple[str, ...], *, as_json: bool) -> None:
    """Score a run's CoTs as asked and print the outcome."""
    request = make_request(run, options, settings)
    quiet_libraries()
    errors = Console(stderr=True, markup=False, highlight=False)
    with ending_at_once(), progress(errors) as track:
        found = transfer(request, track, lambda message: errors.print(visible(message), soft_wrap=True))
        document = document_of(found, request.seed)
        files = write(found, document)
    if as_json:
        print(json.dumps(document, ensure_ascii=False))
    else:
        print_report(found, files)


def make_request(run: str | None, options: Mapping[str, Any], settings: tuple[str, ...]) -> Request:
    """The options as a request. Raises `UserError` without another model to read."""
    readers = list(dict.fromkeys(options["readers"]))
    if not readers:
        raise UserError("--reader: name the model that is to read the CoTs (a folder or a hub id); repeatable")
    if own := next((name for name in readers if name in OWN_READERS), None):
        raise UserError(f"--reader {own}: is the run's own model, and its base reads in any case; name another model")
    overrides = overrides_of({**options, "readers": [BASE, *readers]}, settings)
    return Request(
        run=run,
        tasks=(SuiteTask(dataset=options["dataset"]),) if options["dataset"] else (),
        task_fields={"split": options["split"], "limit": options["limit"]},
        seed=options["seed"],
        out=Path(options["out"]) if options["out"] else None,
        overrides=overrides,
    )


def print_report(found: Transfer, files: list[Path]) -> None:
    """Informativeness over the steps, a column a reader, and how far the readers agree."""
    console = Console(markup=False, highlight=False)
    n = len(found.work.items)
    title = f"{found.run} on {found.work.task.title}, {found.work.task.split} split: {n:,} items"
    console.print(visible(title), soft_wrap=True)
    heading = "ln p(answer | CoT) - ln p(answer | the base's CoT), nats per answer token [95 %]"
    print_table(console, _table(found.held_out, found.readers), heading)
    if found.training:
        console.print()
        print_table(console, _table(found.training, found.readers), "the same of training CoTs, which are not held out")
    console.print()
    for each in found.correlations:
        names = " and ".join(each.readers)
        if each.rho is None:
            console.print(visible(f"Spearman, {names}: not defined, one of them finds all items alike"), soft_wrap=True)
        else:
            interval = f"[{each.low:+.3f}, {each.high:+.3f}]"
            text = f"Spearman over the items at the last step, {names}: {each.rho:+.3f} {interval}"
            console.print(visible(text), soft_wrap=True)
    if note := small_sample_note(n, is_share=False):
        console.print(note, soft_wrap=True)
    for path in files:
        console.print(visible(f"written: {path}"), soft_wrap=True)


def _table(by_step: Mapping[int, Mapping[str, Estimate]], readers: tuple[str, ...]) -> Table:
    table = plain_table("step", *readers)
    for step, of in sorted(by_step.items()):
        cells = (estimate_cell(of[name]) for name in readers)
        table.add_row("0 (base)" if step == 0 else str(step), *cells)
    return table
