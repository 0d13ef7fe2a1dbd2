"""The local launcher: a sweep's cells as processes on this machine, one after the other or a few at a time."""

from __future__ import annotations

import signal
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from markov_cot.training.sweep_cell import CellProcess

POLL_SECONDS = 0.1
PATIENCE_SECONDS = 10.0
"""From a signal that ends a process at once to its death."""


@runtime_checkable
class Watcher(Protocol):
    """What shows how a sweep proceeds."""

    def started(self, cell: str) -> None:
        """A cell's process runs."""

    def running(self, cells: Sequence[str]) -> None:
        """Called every tenth of a second."""

    def ended(self, cell: str) -> None:
        """A cell's process has ended, and how is recorded."""


def run_locally(
    folder: Path, cells: Iterable[str], jobs: int, watcher: Watcher, stop_requested: Callable[[], bool]
) -> None:
    """Run cells, up to `jobs` at a time, until all have ended or a stop is requested.

    A stop lets the running ones finish their step and save. Whatever is raised meanwhile ends them at once.
    """
    waiting, running, asked = deque(cells), list[CellProcess](), False
    try:
        while running or (waiting and not stop_requested()):
            while waiting and len(running) < jobs and not stop_requested():
                running.append(CellProcess(folder, waiting.popleft(), own_group=True))
                watcher.started(running[-1].cell)
            if stop_requested() and not asked:
                asked = True
                for process in running:
                    process.ask_to_stop(signal.SIGINT)
            for process in [each for each in running if each.ended()]:
                running.remove(process)
                watcher.ended(process.cell)
            watcher.running([process.cell for process in running])
            time.sleep(POLL_SECONDS)
    except BaseException:
        end_at_once(running)
        raise


def end_at_once(running: Sequence[CellProcess]) -> None:
    """End processes, those that do not obey by force, and record it."""
    for process in running:
        process.ask_to_stop(signal.SIGINT)
    until = time.monotonic() + PATIENCE_SECONDS
    while not all(process.ended() for process in running) and time.monotonic() < until:
        time.sleep(POLL_SECONDS)
    for process in running:
        if not process.ended():
            process.kill()
            process.ended()
