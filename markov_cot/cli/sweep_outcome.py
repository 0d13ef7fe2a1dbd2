"""How a sweep's cells stand, as a table with what went wrong below it, or as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from markov_cot.cli.again import diagnose, show_sweep, sweep_again
from markov_cot.cli.tables import plain_table, print_table
from markov_cot.config.grid_cells import number_of
from markov_cot.config.yaml_files import write_value
from markov_cot.evaluation.runs import DONE, INTERRUPTED
from markov_cot.training.sweep_plan import Sweep
from markov_cot.training.sweep_state import FAILED, QUEUED, STOPPED, WAITING, Status
from markov_cot.utils.text import visible

RETRY = "--retry-failed"
FEWEST_TO_SHOW = 2
"""Runs that `sweep show` can say something of."""


def document_of(sweep: Sweep, found: Sequence[Status]) -> dict[str, Any]:
    """Return how the cells stand as JSON."""
    return {
        "sweep": sweep.name,
        "folder": str(sweep.folder),
        "inputs": {str(sweep.file): sweep.sha256},
        "settings": dict(sweep.common),
        "n": len(found),
        "seed": sweep.seeds,
        "cells": {
            each.cell.name: {
                "settings": dict(each.cell.settings),
                "seed": each.cell.seed,
                "state": each.state,
                "step": each.step,
                "steps": each.cell.config.steps,
                "measure": each.measure,
                "base": each.base,
                "trained": each.trained,
                "seconds": round(each.seconds, 2),
                "why": each.why or None,
                "output": str(each.output),
            }
            for each in found
        },
    }


def outcome_line(status: Status) -> str:
    """Return one line on how a cell has ended."""
    name, seconds = status.cell.name, f"{status.seconds:.0f} s"
    if status.state == DONE:
        return f"{name}: {status.measure} {_score(status.base)} to {_score(status.trained)}, {seconds}"
    return f"{name}: {status.state}{f' ({status.why})' if status.why else ''}, {seconds}"


def print_outcome(sweep: Sweep, found: Sequence[Status]) -> None:
    """Print the table of the cells, what went wrong with which, and what to type next."""
    console = Console(markup=False, highlight=False)
    title = f"{sweep.name}: {len(found)} cells in {sweep.folder}"
    print_table(console, _table(found, has_seeds=len(sweep.seeds) > 1), visible(title))
    for line in [*_troubles(sweep, found), *_next(sweep, found)]:
        console.print(visible(line), soft_wrap=True)


def _table(found: Sequence[Status], *, has_seeds: bool) -> Table:
    measures = {each.measure for each in found if each.measure} or {"score"}
    measure = measures.pop() if len(measures) == 1 else "score"
    keys = list(found[0].cell.settings)
    seed = ["seed"] if has_seeds else []
    table = plain_table("cell", *keys, *seed, f"{measure} of base", "trained", "steps", "state", "seconds")
    for each in found:
        settings = [visible(write_value(each.cell.settings[key])) for key in keys]
        steps = f"{each.step}/{each.cell.config.steps}"
        table.add_row(
            f"{number_of(each.cell.name):03d}",
            *settings,
            *([str(each.cell.seed)] if has_seeds else []),
            _score(each.base),
            _score(each.trained),
            steps,
            each.state,
            f"{each.seconds:.0f}",
        )
    return table


def _score(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _troubles(sweep: Sweep, found: Sequence[Status]) -> list[str]:
    """What alarms stopped, and what failed: apart."""
    stopped, failed = ([each for each in found if each.state == state] for state in (STOPPED, FAILED))
    lines = []
    if stopped:
        lines.append("stopped by an alarm, and not run again:")
        lines += [f"  {each.cell.name}: {each.why}; {diagnose(each.cell.name, each.cell.config)}" for each in stopped]
    if failed:
        lines.append("failed:")
        lines += [f"  {each.cell.name}: {each.why} ({each.output})" for each in failed]
        lines.append(f"to try them again: {sweep_again(sweep.file, RETRY)}")
    return lines


def _next(sweep: Sweep, found: Sequence[Status]) -> list[str]:
    """What to type to continue, and to see what the sweep shows."""
    lines = []
    if any(each.state in (WAITING, INTERRUPTED) for each in found):
        lines.append(f"to run the rest: {sweep_again(sweep.file)}")
    if any(each.state == QUEUED for each in found):
        lines.append(f"how far it is: {sweep_again(sweep.file, '--launcher', 'slurm', '--dry-run')}")
    if sum(each.state == DONE for each in found) >= FEWEST_TO_SHOW:
        lines.append(f"what it shows: {show_sweep(sweep.folder)}")
    return lines
