"""How far each cell of a sweep is, from the files that it leaves."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markov_cot.evaluation.runs import DONE, INTERRUPTED, TRAINING, read_run
from markov_cot.training.sweep_cell import output_file, read_attempts
from markov_cot.training.sweep_plan import Cell, Sweep
from markov_cot.utils.layout import CONFIG, SUMMARY

WAITING, QUEUED, STOPPED, FAILED = "waiting", "queued", "stopped", "failed"
TO_RUN = (WAITING, INTERRUPTED)
"""States of cells that the next invocation runs."""


@dataclass(frozen=True, slots=True)
class Status:
    """How far one cell is."""

    cell: Cell
    state: str
    """"waiting", "queued" (in Slurm), "training", "interrupted", "done", "stopped" (by an alarm), "failed", or
    "unreadable", of a run whose config.yaml is."""
    step: int
    """Last one in its log."""
    measure: str | None
    """What the held-out scores at the end are: "accuracy", or "answer_logprob" (nats per token)."""
    base: float | None
    trained: float | None
    seconds: float
    """Of all its processes that have ended."""
    why: str
    """What it failed or was stopped by."""
    output: Path
    """What it printed."""


def statuses(sweep: Sweep, queued: Collection[str] = ()) -> list[Status]:
    """Return how far the cells are, in the order of their names. `queued` are those that wait for a scheduler."""
    return [status_of(sweep, cell, is_queued=cell.name in queued) for cell in sweep.cells]


def status_of(sweep: Sweep, cell: Cell, *, is_queued: bool = False) -> Status:
    """Return how far one cell is."""
    folder = sweep.folder / cell.name
    attempts = read_attempts(sweep.folder, cell.name)
    state, step, why = WAITING, 0, ""
    if (folder / CONFIG).is_file():
        run = read_run(folder)
        state, step, why = run.state, run.step, run.stopped_by
        if why:
            state = STOPPED
    if is_queued and state in TO_RUN:
        state = QUEUED
    elif attempts and attempts[-1].failed and state not in (DONE, TRAINING):
        state, why = FAILED, f"exit {attempts[-1].exit_code}: {attempts[-1].why}"
    measure, base, trained = _scores(folder / SUMMARY) if state == DONE else (None, None, None)
    seconds = sum((attempt.seconds for attempt in attempts), 0.0)
    return Status(cell, state, step, measure, base, trained, seconds, why, output_file(sweep.folder, cell.name))


def _scores(path: Path) -> tuple[str | None, float | None, float | None]:
    """What was measured, and its values of base and trained actor; None where the file is damaged."""
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
        base, trained = summary["base"], summary["trained"]
        measure = "answer_logprob" if trained["accuracy"] is None else "accuracy"
        return measure, _number(base[measure]), _number(trained[measure])
    except (OSError, ValueError, TypeError, LookupError, RecursionError):
        return None, None, None


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) else None
