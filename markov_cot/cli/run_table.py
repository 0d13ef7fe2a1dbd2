"""What `markov-cot runs` does: a table with a line for each run, or JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import click
from rich import box
from rich.console import Console
from rich.table import Table

from markov_cot.cli.tables import print_table, width_of
from markov_cot.evaluation.runs import MEASURES, Run, list_runs, sort_runs
from markov_cot.utils.text import visible

SHORT = dict(zip(MEASURES, ("accuracy", "log-prob"), strict=True))
LEFT_OUT_FIRST = ("model", "when", "data")
"""Columns that a narrow terminal goes without."""


def run_listing(runs_dir: str, by: str, *, as_json: bool) -> None:
    """Print the runs in a folder."""
    runs = sort_runs(list_runs(Path(runs_dir)), by)
    if as_json:
        print(json.dumps([asdict(run) for run in runs], indent=2))
    elif runs:
        _print(runs)
    else:
        click.echo(f"no runs in {runs_dir}/; markov-cot train starts one", err=True)


def _print(runs: Sequence[Run]) -> None:
    console = Console(markup=False, highlight=False)
    for count in range(len(LEFT_OUT_FIRST) + 1):
        table = _table(runs, LEFT_OUT_FIRST[:count])
        if width_of(console, table) <= console.width:
            break
    print_table(console, table)


def _table(runs: Sequence[Run], left_out: Sequence[str]) -> Table:
    measures = {run.measure for run in runs if run.measure}
    shared = SHORT[measures.pop()] if len(measures) == 1 else None
    table = Table(box=box.SIMPLE, padding=0, show_edge=False)
    cells = {
        "run": [run.name for run in runs],
        "when": [_when(run) for run in runs],
        "data": [run.dataset for run in runs],
        "model": [run.model for run in runs],
        "step": [f"{run.step}/{run.steps}" for run in runs],
        shared or "result": [_result(run, names_measure=shared is None) for run in runs],
        "state": [run.state for run in runs],
    }
    shown = {heading: column for heading, column in cells.items() if heading not in left_out}
    for heading in shown:
        table.add_column(heading, justify="right" if heading in ("step", shared or "result") else "left")
    for row in zip(*shown.values(), strict=True):
        table.add_row(*map(visible, row))
    return table


def _when(run: Run) -> str:
    return "-" if run.started is None else run.started[:16].replace("T", " ")


def _result(run: Run, *, names_measure: bool) -> str:
    if run.best is None or run.measure is None:
        return "-"
    return f"{run.best:.3f}" + (f" {SHORT[run.measure]}" if names_measure else "")
