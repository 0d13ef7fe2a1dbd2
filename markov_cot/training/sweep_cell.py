"""One cell of a sweep as a process of its own: `markov-cot train`, its output in a file, how it ended in another.

Loads nothing heavy: the cell's own process does.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from markov_cot.config.loading import build_config, code_to_repeat, read_recipe
from markov_cot.config.yaml_files import write_value
from markov_cot.utils.files import appending, replace_file
from markov_cot.utils.layout import CONFIG

CELLS = "cells"
"""Folder in a sweep's folder: for each cell its settings, how each attempt ended, and what was printed."""
DONE, STOPPED, INTERRUPTED = 0, 3, 130
"""Exit codes of `markov-cot train` that are no failures."""
KILLED = 128
"""What a shell adds to a signal's number."""
ASKING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU)
"""Signals that ask for an end. They end a process by themselves before it has begun to listen to them."""
LONGEST_REASON = 300
"""Characters."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """How one process of a cell ended."""

    started: str
    """UTC, ISO 8601."""
    seconds: float
    exit_code: int
    why: str
    """Last line that was printed, where it failed."""

    @property
    def failed(self) -> bool:
        """Whether it ended neither well, nor by an alarm, nor because it was asked to."""
        return self.exit_code not in (DONE, STOPPED, INTERRUPTED)


def settings_file(folder: Path, cell: str) -> Path:
    """A cell's settings, as `markov-cot train` reads them."""
    return folder / CELLS / f"{cell}.yaml"


def attempts_file(folder: Path, cell: str) -> Path:
    """How a cell's processes have ended."""
    return folder / CELLS / f"{cell}.json"


def output_file(folder: Path, cell: str) -> Path:
    """What a cell has printed."""
    return folder / CELLS / f"{cell}.txt"


def read_attempts(folder: Path, cell: str) -> list[Attempt]:
    """How a cell's processes have ended so far; none where that is not known."""
    try:
        rows = json.loads(attempts_file(folder, cell).read_text(encoding="utf-8"))
        return [
            Attempt(str(row["started"]), float(row["seconds"]), int(row["exit_code"]), str(row["why"])) for row in rows
        ]
    except (OSError, ValueError, TypeError, LookupError, RecursionError):
        return []


def train_command(folder: Path, cell: str) -> list[str]:
    """The command that trains a cell, from where it is."""
    train = [sys.executable, "-m", "markov_cot", "train", "--no-report"]
    if not (folder / cell / CONFIG).is_file():
        return [*train, str(settings_file(folder, cell)), "--run", cell]
    path = str(settings_file(folder, cell))
    config = build_config(read_recipe(path), path)
    again: Mapping[str, Any] = {"checkpoint.runs_dir": config.checkpoint.runs_dir} | code_to_repeat(config)
    return [*train, "--run", cell, "--resume", *(f"--set={key}={write_value(value)}" for key, value in again.items())]


class CellProcess:
    """A cell's process, from its start to the record of its end."""

    def __init__(self, folder: Path, cell: str, *, own_group: bool) -> None:
        """Start it. A process in a group of its own is not reached by what a terminal sends. Raises `OSError`."""
        self.cell = cell
        self._folder = folder
        self._started, self._clock = datetime.now(UTC), time.monotonic()
        self._ended = self._killed = False
        output = output_file(folder, cell)
        with appending(output) as file:
            self._before = output.stat().st_size
            self._process = subprocess.Popen(
                train_command(folder, cell),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                process_group=0 if own_group else None,
            )

    def ended(self) -> bool:
        """Whether it has ended, which is then recorded. Never waits."""
        if not self._ended and self._process.poll() is not None:
            self._record(self._process.returncode)
        return self._ended

    def ask_to_stop(self, number: signal.Signals) -> None:
        """Send it a signal: the first lets a step finish, a second ends it at once."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, number)

    def wait_for_end(self) -> None:
        """Wait without taking note of the end, so that a signal's handler may, whatever it has interrupted."""
        with contextlib.suppress(ChildProcessError):
            os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)

    def kill(self) -> None:
        """End it now, which counts as an interruption."""
        self._killed = True
        self._process.kill()
        self._process.wait()

    def _record(self, code: int) -> None:
        self._ended = True
        exit_code, why = code, ""
        if code < 0:
            exit_code = INTERRUPTED if self._killed or -code in ASKING else KILLED - code
            why = f"killed by signal {-code}"
        seconds = round(time.monotonic() - self._clock, 2)
        attempt = Attempt(self._started.isoformat(timespec="seconds"), seconds, exit_code, "")
        if attempt.failed:
            attempt = replace(attempt, why=why or self._last_line())
        attempts = [asdict(each) for each in (*read_attempts(self._folder, self.cell), attempt)]
        replace_file(attempts_file(self._folder, self.cell), (json.dumps(attempts, indent=1) + "\n").encode())

    def _last_line(self) -> str:
        """Of what this process printed."""
        with output_file(self._folder, self.cell).open("rb") as file:
            file.seek(self._before)
            lines = file.read().decode(errors="replace").split("\n")
        line = next((line.strip() for line in reversed(lines) if line.strip()), "printed nothing")
        return line.removeprefix("markov-cot: ")[:LONGEST_REASON]
