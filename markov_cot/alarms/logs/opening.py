"""Which log a name stands for, and which reader takes it."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

from markov_cot.alarms.logs.completion_files import FOLDER, CompletionFiles, list_files
from markov_cot.alarms.logs.console import MARK, Console
from markov_cot.alarms.logs.entry import Log
from markov_cot.alarms.logs.event_files import PATTERN, EventFiles
from markov_cot.alarms.logs.json_lines import lenient_rows
from markov_cot.alarms.logs.published import Published, is_published
from markov_cot.alarms.logs.step_rows import StepRows
from markov_cot.alarms.logs.trainer_state import HISTORY, NAME, TrainerState
from markov_cot.utils.errors import UserError
from markov_cot.utils.layout import LOG, newest_run, run_names

HEAD = 1 << 16
"""Bytes of a file that show its format."""
NAMED = 5
"""Folders that an error names."""
ACCEPTED = f"{LOG}, {NAME}, {FOLDER} or TensorBoard event files"


def open_log(path: Path) -> Log:
    """Return the reader for a file, chosen by its beginning, or for a folder of completions or event files."""
    if path.suffix == ".parquet" or (path.is_dir() and list_files(path)):
        return CompletionFiles(path)
    if path.is_dir() or path.match(PATTERN):
        return EventFiles(path)
    try:
        with path.open("rb") as file:
            head = file.read(HEAD)
    except OSError as error:
        raise UserError(f"log {path}: cannot be read ({error.strerror})") from None
    lines = [line.strip() for line in head.replace(b"\r", b"\n").split(b"\n")]
    if lines[0] == b"{" or path.name == NAME or f'"{HISTORY}"'.encode() in head:
        return TrainerState(path)
    if any(map(is_published, islice(lenient_rows(path), 2))):
        return Published(path)
    if any(line.startswith(MARK.encode()) for line in lines) and not lines[0].startswith(b'{"'):
        return Console(path)
    return StepRows(path)


def find_log(name: str, runs_dir: Path) -> Path:
    """Return the log that `name` stands for: a file, a folder with one, or a run in `runs_dir`."""
    given = Path(name).expanduser()
    if given.is_file():
        return given
    folders = [folder for folder in (given, runs_dir / name) if folder.is_dir()]
    for folder in folders:
        if found := _log_in(folder):
            return found
    if given.is_dir():
        raise UserError(f"folder {name}: has no {ACCEPTED}; give a run's folder, or the log itself")
    runs = run_names(runs_dir, LOG)
    there = f"there are {', '.join(runs)}" if runs else "it has no runs"
    raise UserError(f"{name}: is no file, no folder, and no run in {runs_dir}/ ({there})")


def find_newest_log(runs_dir: Path) -> Path:
    """Return the log of the newest run in `runs_dir`."""
    run = newest_run(runs_dir, LOG)
    if run is None:
        raise UserError(f"there are no runs in {runs_dir}/; train first, or give a run's folder or its {LOG}")
    return runs_dir / run / LOG


def _log_in(folder: Path) -> Path | None:
    """Return the log in a folder: our own, Trainer's newest state, completions, or the folder of event files nearest.

    Raises `UserError` where several folders below it have event files.
    """
    for path in (folder / LOG, folder / NAME):
        if path.is_file():
            return path
    states = sorted(folder.glob(f"checkpoint-*/{NAME}"), key=_number)
    if states:
        return states[-1]
    for path in (folder, folder / FOLDER):
        if list_files(path):
            return path
    for below in ("", "*/", "*/*/"):
        holders = sorted({path.parent for path in folder.glob(below + PATTERN)})
        if len(holders) > 1:
            names = ", ".join(map(str, holders[:NAMED])) + (" ..." if len(holders) > NAMED else "")
            raise UserError(f"folder {folder}: has event files of {len(holders)} runs; give one of {names}")
        if holders:
            return holders[0]
    return None


def _number(state: Path) -> int:
    """Return the step in the name of a checkpoint's folder; the highest is the newest."""
    digits = state.parent.name.rpartition("-")[2]
    return int(digits) if digits.isdecimal() else -1
