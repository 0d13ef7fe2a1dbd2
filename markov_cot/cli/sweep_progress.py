"""The progress of `markov-cot sweep run`: a bar for the sweep and one for each running cell, and a line at each end."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from markov_cot.training.sweep_plan import Sweep
from markov_cot.utils.layout import LOG
from markov_cot.utils.text import visible

LOOK_SECONDS = 1.0
"""Between looks into the logs of running cells."""
LONGEST_LINE = 1 << 16
"""Bytes of a log's end that hold its last whole line."""
BAR_WIDTH = 20


@contextlib.contextmanager
def progress_of(
    console: Console, sweep: Sweep, cells: Sequence[str], outcome: Callable[[str], str]
) -> Iterator[SweepProgress]:
    """Yield what shows the progress of `cells`; `outcome` says in one line how a cell has ended."""
    columns = (
        TextColumn("{task.description}"),
        MofNCompleteColumn(),
        BarColumn(bar_width=BAR_WIDTH),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as bar:
        yield SweepProgress(bar, sweep, len(cells), outcome)


class SweepProgress:
    """A watcher of the local launcher."""

    def __init__(self, bar: Progress, sweep: Sweep, total: int, outcome: Callable[[str], str]) -> None:
        self._bar, self._sweep, self._outcome = bar, sweep, outcome
        self._steps = {cell.name: cell.config.steps for cell in sweep.cells}
        self._all = bar.add_task("cells", total=total)
        self._tasks: dict[str, TaskID] = {}
        self._looked = 0.0

    def started(self, cell: str) -> None:
        """Add a cell's bar; where nobody would see it, a line."""
        if not self._bar.console.is_terminal:
            self._print(f"{cell}: started")
        self._tasks[cell] = self._bar.add_task(visible(f"{cell}, step"), total=self._steps[cell])

    def running(self, cells: Sequence[str]) -> None:
        """Advance the cells' bars, once a second."""
        if time.monotonic() - self._looked < LOOK_SECONDS:
            return
        self._looked = time.monotonic()
        for cell in cells:
            self._bar.update(self._tasks[cell], completed=last_step(self._sweep.folder / cell / LOG))

    def ended(self, cell: str) -> None:
        """Replace a cell's bar by a line."""
        self._bar.remove_task(self._tasks.pop(cell))
        self._print(self._outcome(cell))
        self._bar.advance(self._all)

    def _print(self, line: str) -> None:
        self._bar.console.print(visible(line), soft_wrap=True)


def last_step(path: Path) -> int:
    """Return the step of a log's last whole line; 0 where there is none."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - LONGEST_LINE))
            lines = file.read().split(b"\n")[:-1]
        return int(json.loads(lines[-1])["step"])
    except (OSError, ValueError, TypeError, LookupError):
        return 0
