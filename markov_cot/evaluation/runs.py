"""`markov-cot runs`: one line a run, from the files it leaves."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from markov_cot.checkpoints.run_lock import is_locked
from markov_cot.config.loading import read_saved
from markov_cot.config.schema import Config
from markov_cot.utils.errors import UserError
from markov_cot.utils.layout import ALARMS, CONFIG, ENVIRONMENT, LOG, SUMMARY, run_names

TRAINING, DONE, INTERRUPTED, UNREADABLE = "training", "done", "interrupted", "unreadable"
STOPPED_BY = "stopped by "
MEASURES = ("accuracy", "answer_logprob")
"""What a held-out result is, the first of those that the log has."""
EVENTS = "TensorBoard's file"
_EVENT_FILE = re.compile(r"events\.out\.tfevents\.(\d{1,10})\.")
HELD_OUT = "eval/"
"""How keys of held-out results begin."""
_IN_A_ROW = f'"{HELD_OUT}'.encode()


@dataclass(frozen=True, slots=True)
class Run:
    """How far a run is."""

    name: str
    dataset: str
    model: str
    step: int
    """Last step in its log."""
    steps: int
    best: float | None
    """Highest held-out accuracy (of continuations: log-prob) after step 0."""
    best_step: int | None
    state: str
    """"training", "done", "stopped by NAMES" (of critical alarms), or "interrupted", which `--resume` continues."""
    measure: str | None = None
    """What `best` is, of `MEASURES`."""
    started: str | None = None
    """When it was started: local time to the minute, as in 2026-11-27T10:15+01:00."""
    started_from: str | None = None
    """What says so: environment.json, which has the first start. Of a run from before there was that file, it is the
    last start: by the name of TensorBoard's file, which copies keep, or by when config.yaml was written, which only
    copies that preserve times do (cp -p, rsync -a)."""

    @property
    def stopped_by(self) -> str:
        """Names of the alarms that stopped it; empty where none did."""
        return self.state.removeprefix(STOPPED_BY) if self.state.startswith(STOPPED_BY) else ""


SORT_KEYS: Mapping[str, Callable[[Run], Any]] = {
    "name": lambda run: run.name,
    "when": lambda run: run.started and datetime.fromisoformat(run.started).timestamp(),
    "dataset": lambda run: run.dataset,
    "model": lambda run: run.model,
    "steps": lambda run: run.step,
    "result": lambda run: None if run.best is None else (run.measure == MEASURES[0], run.best),
    "state": lambda run: run.state,
}


def list_runs(runs_dir: Path) -> list[Run]:
    """All runs in a folder, in alphabetical order. Those whose config cannot be read are listed as "unreadable"."""
    return [read_run(runs_dir / name) for name in run_names(runs_dir, CONFIG)]


def sort_runs(runs: Sequence[Run], by: str) -> list[Run]:
    """Return runs by a key of `SORT_KEYS`, or "-KEY" for the largest first; those without a value come last.

    Of results, log-probs are below accuracies. Raises `UserError` for another key.
    """
    key = SORT_KEYS.get(by.removeprefix("-"))
    if key is None:
        raise UserError(f"--sort {by}: not known; there are {', '.join(SORT_KEYS)}, and -KEY for the largest first")
    known = [run for run in runs if key(run) is not None]
    return sorted(known, key=key, reverse=by.startswith("-")) + [run for run in runs if key(run) is None]


def read_run(folder: Path) -> Run:
    """Return how far the run in a folder is."""
    started, source = _started(folder)
    try:
        config = read_saved(folder / CONFIG)
    except UserError:  # of another version
        return Run(folder.name, "?", "?", 0, 0, None, None, UNREADABLE, None, started, source)
    best: tuple[float, int, str] | None = None
    step = 0
    for row in _progress(folder / LOG):
        step = max(step, row["step"])
        found = _held_out(row)
        if row["step"] > 0 and found and (best is None or found[0] > best[0]):
            best = (found[0], row["step"], found[1])
    value, best_step, measure = best or (None, None, None)
    dataset = Path(config.data.dataset).name
    state = _state(folder, config, step)
    return Run(
        folder.name, dataset, config.model.name, step, config.steps, value, best_step, state, measure, started, source
    )


def _started(folder: Path) -> tuple[str, str]:
    """When a run was started, and which file says so."""
    if first := _first_start(folder / ENVIRONMENT):
        when, source = first, ENVIRONMENT
    elif times := [int(found[1]) for path in folder.iterdir() if (found := _EVENT_FILE.match(path.name))]:
        when, source = datetime.fromtimestamp(max(times)), EVENTS
    else:
        when, source = datetime.fromtimestamp((folder / CONFIG).stat().st_mtime), CONFIG
    return when.astimezone().isoformat(timespec="minutes"), source


def _first_start(path: Path) -> datetime | None:
    """The first of the starts that a run wrote down; None where it did not, or the file is damaged."""
    try:
        return datetime.fromisoformat(json.loads(path.read_bytes())["starts"][0]["time"])
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None


def held_out_key(keys: Iterable[str]) -> str | None:
    """Return which of a log's keys is the held-out result, as eval/gsm8k/accuracy; None where there is none."""
    held_out = [key for key in keys if key.startswith(HELD_OUT)]
    return next((key for measure in MEASURES for key in held_out if key.endswith(f"/{measure}")), None)


def _held_out(row: Mapping[str, Any]) -> tuple[float, str] | None:
    """A row's held-out result, and what it is."""
    key = held_out_key(key for key, value in row.items() if isinstance(value, int | float))
    return (float(row[key]), key.rpartition("/")[2]) if key else None


def _state(folder: Path, config: Config, step: int) -> str:
    if is_locked(folder):
        return TRAINING
    if (folder / SUMMARY).is_file():
        return DONE
    last = [row for row in _rows(_lines(folder / ALARMS)) if row["step"] == step and row.get("level") == "critical"]
    names = ", ".join(dict.fromkeys(str(row.get("alarm")) for row in last))
    if names and config.alarms.action != "continue":
        return f"{STOPPED_BY}{names}"
    return INTERRUPTED


def _progress(log: Path) -> Iterator[dict[str, Any]]:
    """The rows of a log that hold a held-out result, and its last. Only these are parsed: logs are long."""
    content = log.read_bytes() if log.is_file() else b""
    yield from _rows(_lines_with(_IN_A_ROW, content))
    if last := next(_rows(_lines_backwards(content)), None):
        yield last


def _lines_with(text: bytes, content: bytes) -> Iterator[bytes]:
    end = 0
    while (found := content.find(text, end)) >= 0:
        end = content.find(b"\n", found)
        end = len(content) if end < 0 else end
        yield content[content.rfind(b"\n", 0, found) + 1 : end]


def _lines_backwards(content: bytes) -> Iterator[bytes]:
    end = len(content)
    while end > 0:
        start = content.rfind(b"\n", 0, end) + 1
        yield content[start:end]
        end = start - 1


def _lines(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines() if path.is_file() else []


def _rows(lines: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    """Whole lines of a log; the last may be torn."""
    for line in lines:
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(row, dict) and isinstance(row.get("step"), int):
            yield row
