"""`markov-cot runs`: one line a run, from the files it leaves."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markov_cot.checkpoints.run_lock import is_locked
from markov_cot.config.loading import build_config, read_recipe
from markov_cot.config.schema import Config
from markov_cot.utils.errors import UserError
from markov_cot.utils.layout import ALARMS, CONFIG, LOG, SUMMARY, run_names

TRAINING, DONE, INTERRUPTED, UNREADABLE = "training", "done", "interrupted", "unreadable"
STOPPED_BY = "stopped by "


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

    @property
    def stopped_by(self) -> str:
        """Names of the alarms that stopped it; empty where none did."""
        return self.state.removeprefix(STOPPED_BY) if self.state.startswith(STOPPED_BY) else ""


def list_runs(runs_dir: Path) -> list[Run]:
    """All runs in a folder, in alphabetical order. Those whose config cannot be read are listed as "unreadable"."""
    return [read_run(runs_dir / name) for name in run_names(runs_dir, CONFIG)]


def read_run(folder: Path) -> Run:
    """Return how far the run in a folder is."""
    try:
        config = build_config(read_recipe(str(folder / CONFIG)), CONFIG)
    except UserError:  # of another version
        return Run(folder.name, "?", "?", 0, 0, None, None, UNREADABLE)
    step, best, best_step = 0, None, None
    for row in _rows(folder / LOG):
        step = max(step, row["step"])
        score = _held_out(row)
        if row["step"] > 0 and score is not None and (best is None or score > best):
            best, best_step = score, row["step"]
    dataset = Path(config.data.dataset).name
    state = _state(folder, config, step)
    return Run(folder.name, dataset, config.model.name, step, config.steps, best, best_step, state)


def _held_out(row: Mapping[str, Any]) -> float | None:
    for measure in ("accuracy", "answer_logprob"):
        for key, value in row.items():
            if key.startswith("eval/") and key.endswith(f"/{measure}") and isinstance(value, int | float):
                return float(value)
    return None


def _state(folder: Path, config: Config, step: int) -> str:
    if is_locked(folder):
        return TRAINING
    if (folder / SUMMARY).is_file():
        return DONE
    last = [row for row in _rows(folder / ALARMS) if row["step"] == step and row.get("level") == "critical"]
    names = ", ".join(dict.fromkeys(str(row.get("alarm")) for row in last))
    if names and config.alarms.action != "continue":
        return f"{STOPPED_BY}{names}"
    return INTERRUPTED


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    """Whole lines of a log; the last may be torn."""
    if not path.is_file():
        return
    with path.open("rb") as file:
        for line in file:
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(row, dict) and isinstance(row.get("step"), int):
                yield row
