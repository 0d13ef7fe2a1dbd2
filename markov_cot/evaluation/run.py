"""Reads what a run left on disk: metrics, CoTs, evaluations, checkpoints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from markov_cot.checkpoints.checkpoint import list_steps
from markov_cot.config.loading import read_saved
from markov_cot.config.schema import Config
from markov_cot.tracking.run_log import read_rows
from markov_cot.tracking.step_files import kept_steps, read_final, read_step, rollouts_folder, validation_folder
from markov_cot.utils.errors import UserError
from markov_cot.utils.layout import ALARMS, CONFIG, LOG, SAMPLES, SUMMARY, run_names

RESULTS = "results_*.json"


class Run:
    """A run's folder, read again at each call, so that a run that is still training can be watched.

    Example:
        >>> from markov_cot import Run
        >>> run = Run("example")
        >>> columns = run.metrics()
        >>> columns["step"], len(columns["loss/total"])
        ([0, 1, 2], 3)
        >>> [folder.name for folder in run.checkpoints()]
        ['adapter_0', 'adapter_2']
    """

    def __init__(self, name_or_path: str | Path, *, runs_dir: str | Path = "runs") -> None:
        """Open `runs_dir/<name>`, or a run's folder by its path. Raises `UserError` when there is no such run."""
        given = Path(name_or_path)
        self.folder = given if (given / CONFIG).is_file() else Path(runs_dir, name_or_path)
        if not (self.folder / CONFIG).is_file():
            names = run_names(Path(runs_dir), CONFIG)
            there = f"there are {', '.join(names)}" if names else "give a run's name or its folder"
            raise UserError(f"run {name_or_path}: there is no {self.folder / CONFIG}; {there}")

    @property
    def name(self) -> str:
        """The run's name."""
        return self.folder.name

    @property
    def config(self) -> Config:
        """The settings it was last started with."""
        return read_saved(self.folder / CONFIG)

    def metrics(self) -> dict[str, list[int] | list[float]]:
        """Return the log as columns of equal length, "step" (whole numbers) first, NaN where a step has no value.

        `pandas.DataFrame(run.metrics())` makes a table of it. docs/metrics.md explains every key.
        """
        rows = read_rows(self.folder / LOG)
        keys = dict.fromkeys(key for row in rows for key in row)
        return {
            "step": [int(row["step"]) for row in rows],
            **{key: [_number(row.get(key)) for row in rows] for key in keys if key != "step"},
        }

    def samples(self) -> list[dict[str, Any]]:
        """Return the sample CoTs, with `step`, `question`, `answer`, `cot` and `answer_logprob`."""
        return read_rows(self.folder / SAMPLES)

    def alarms(self) -> list[dict[str, Any]]:
        """Return the alarms that changed their level, with their diagnoses."""
        return read_rows(self.folder / ALARMS)

    def rollouts(self, step: int | None = None) -> list[dict[str, Any]]:
        """Return a row for each CoT of one step, or of all steps that were kept (`tracking.rollouts`).

        Raises `UserError` for a step that was not kept, naming those that were.
        """
        folder = rollouts_folder(self.folder)
        kept = kept_steps(folder)
        if step is None:
            return [row for each in kept for row in read_step(folder, each)]
        if step not in kept:
            there = ", ".join(map(str, kept)) or "none; train with --set tracking.rollouts=N"
            raise UserError(f"run {self.name}: rollouts of step {step} were not kept; there are {there}")
        return read_step(folder, step)

    def validations(self) -> dict[int, list[dict[str, Any]]]:
        """Return the rows of each validation by step, a row a held-out problem (`tracking.validations`).

        Of each the CoT, the reader's answer, what was read out of it, whether that is right, and the true answer's
        log-prob in nats.
        """
        folder = validation_folder(self.folder)
        return {step: read_step(folder, step) for step in kept_steps(folder)}

    def final_answers(self, policy: str) -> list[dict[str, Any]]:
        """Return the rows behind the final score of "base" or "trained", as in `validations`; none before the end."""
        return read_final(validation_folder(self.folder), policy)

    def evaluations(self) -> list[dict[str, Any]]:
        """Return the results files of `markov-cot eval`, oldest first, in lm-evaluation-harness's layout."""
        files = sorted((self.folder / "eval").glob(RESULTS), key=lambda path: (path.stat().st_mtime_ns, path.name))
        return [json.loads(path.read_text(encoding="utf-8")) for path in files]

    def summary(self) -> dict[str, Any] | None:
        """Return the final scores of base and trained actor; None for a run that has not ended."""
        path = self.folder / SUMMARY
        found: dict[str, Any] | None = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
        return found

    def checkpoints(self) -> list[Path]:
        """Return the checkpoints' folders, oldest first."""
        return list_steps(Path(self.config.checkpoint.checkpoints_dir, self.name))

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r})"


def _number(value: Any) -> float:
    """A logged value; null stands for NaN and infinity."""
    return float("nan") if value is None else float(value)
