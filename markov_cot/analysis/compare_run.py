"""A run as `compare` reads it: its settings, how it ended, its log, and its evaluation records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markov_cot.analysis.compare_records import Records, read_records
from markov_cot.analysis.compare_results import Ending, Held, best_validation, read_ending
from markov_cot.analysis.run_command import run_command
from markov_cot.analysis.sweep_rows import sha256_of
from markov_cot.config.loading import flatten
from markov_cot.evaluation.run import Run
from markov_cot.evaluation.runs import INTERRUPTED, TRAINING, read_run
from markov_cot.utils.errors import UserError
from markov_cot.utils.layout import CONFIG, LOG, SUMMARY

Columns = Mapping[str, Sequence[float]]
"""A log: values by key, NaN where a step has none, "step" among them."""


@dataclass(frozen=True)
class ComparedRun:
    """What a run left."""

    name: str
    """Its folder's, or the whole path where two runs have one name."""
    folder: Path
    settings: Mapping[str, Any]
    """By key with dots."""
    step: int
    state: str
    """As `markov-cot runs` has it."""
    ending: Ending | None
    """None where the run has not ended."""
    best: Held | None
    """The best of its validations."""
    log: Columns
    records: Mapping[str, Records]
    """By task."""
    inputs: Mapping[str, str]
    """SHA-256 of the files read."""
    problems: Sequence[str] = ()
    """What is wrong with records that cannot be read."""

    @property
    def seed(self) -> int:
        """Its seed."""
        return int(self.settings["seed"])

    @property
    def unfinished(self) -> str:
        """Why there is no final result; empty where there is one."""
        if self.ending:
            return ""
        how = {TRAINING: "is still training", INTERRUPTED: "was interrupted"}.get(self.state, f"was {self.state}")
        return f"the run {how} at step {self.step} of {self.settings['steps']}"

    def command(self, *words: str) -> str:
        """Return the command line that does something with this run, where its folders are."""
        return run_command([words[0], "--run", self.folder.name, *words[1:]], self.folder, self.settings)


def read_compared(names: Sequence[str], runs_dir: Path) -> tuple[ComparedRun, ...]:
    """Return the runs of these names or paths.

    Raises `UserError` for fewer than two runs, one that is there twice or not at all, and files that cannot be read.
    """
    if len(names) < 2:
        given = f"RUN {names[0]}: is one run" if names else "no runs given"
        raise UserError(f"{given}; name two or more to compare, as `markov-cot runs` lists them")
    runs = [_open(name, runs_dir) for name in names]
    seen: dict[Path, str] = {}
    for name, run in zip(names, runs, strict=True):
        place = run.folder.resolve()
        if place in seen:
            as_before = "" if seen[place] == name else f", once as {seen[place]}"
            raise UserError(f"RUN {name}: is there twice{as_before}; name each run once")
        seen[place] = name
    short = [run.name for run in runs]
    return tuple(_read(run, run.name if short.count(run.name) == 1 else str(run.folder.resolve())) for run in runs)


def _open(name: str, runs_dir: Path) -> Run:
    """The run, by a path that ends in its folder's name, where "." or ".." was given."""
    run = Run(name, runs_dir=runs_dir)
    return run if run.name.strip(".") else Run(run.folder.resolve())


def _read(run: Run, name: str) -> ComparedRun:
    try:
        config = run.config
    except UserError as error:
        first = str(error).split("; ")[0]
        raise UserError(f"run {name}: its settings are of another version or damaged ({first}); leave it out") from None
    progress = read_run(run.folder)
    log = _log(run, name)
    records = read_records(run, progress.step)
    read = [run.folder / file for file in (CONFIG, LOG, SUMMARY) if (run.folder / file).is_file()]
    return ComparedRun(
        name,
        run.folder,
        flatten(config.model_dump(mode="json")),
        progress.step,
        progress.state,
        read_ending(run.folder / SUMMARY),
        best_validation(log),
        log,
        records.tasks,
        {**{str(path): sha256_of(path) for path in read}, **records.inputs},
        records.problems,
    )


def _log(run: Run, name: str) -> Columns:
    try:
        return run.metrics()
    except (KeyError, TypeError, ValueError, OverflowError):
        raise UserError(
            f"run {name}: {run.folder / LOG} has a row without a step, or a value that is no number; correct it"
        ) from None
