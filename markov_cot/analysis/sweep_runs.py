"""A folder of this project's runs as a sweep: settings from their configs, scores from their summaries or logs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markov_cot.analysis.sweep_rows import Known, Rows, listed, nearest, sha256_of
from markov_cot.config.loading import flatten, read_saved
from markov_cot.tracking.run_log import read_rows
from markov_cot.utils.errors import UserError
from markov_cot.utils.layout import CONFIG, LOG, SUMMARY, run_names

FINAL_SCORES = ("trained.accuracy", "trained.answer_logprob")
"""The metric where none is named: from summary.json, which a run that ended has."""
SEED = "seed"
NO_SETTINGS = ("checkpoint.", "tracking.", "alarms.")
"""Beginnings of settings that a run's score does not depend on."""
RUN, STEP = "run", "step"


@dataclass(frozen=True)
class _RunFiles:
    """What one run left."""

    name: str
    folder: Path
    settings: Mapping[str, str]
    summary: Mapping[str, float]
    log: Sequence[Mapping[str, Any]]


def read_runs(folder: Path, metric: str | None) -> Rows:
    """Return a row for each run, or for each logged step where the metric is one of the log.

    Raises `UserError` for a folder without runs, or a metric that none has.
    """
    found, unreadable = _read_all(folder)
    if not found:
        why = f"none of the runs in it can be read ({unreadable[0]})" if unreadable else f"has no run (no */{CONFIG})"
        raise UserError(f"{folder}: {why}; name a folder of runs, such as runs, or a table with a row for each")
    chosen = metric or next((name for name in FINAL_SCORES if any(name in run.summary for run in found)), None)
    if chosen is None:
        raise UserError(f"{folder}: none of the {len(found)} runs has ended; name a metric of their logs with --metric")
    is_final = any(chosen in run.summary for run in found)
    columns = (RUN, *found[0].settings, *(() if is_final else (STEP,)), chosen)
    cells, places, without = [], [], []
    for run in found:
        values = list(_values(run, chosen, is_final))
        without += [] if values else [run.name]
        for step, value in values:
            cells.append({RUN: run.name, **run.settings, **({} if is_final else {STEP: step}), chosen: value})
            places.append(f"run {run.name}" + ("" if is_final else f" step {step}"))
    if not cells:
        raise UserError(f"--metric {chosen}: no run in {folder} has it{nearest(chosen, _metrics(found))}")
    file = SUMMARY if is_final else LOG
    return Rows(
        source=str(folder),
        columns=columns,
        cells=tuple(cells),
        places=tuple(places),
        inputs={
            str(path): sha256_of(path)
            for run in found
            if run.name not in without
            for path in (run.folder / CONFIG, run.folder / file)
        },
        known=Known(
            run=RUN,
            step=None if is_final else STEP,
            metric=chosen,
            settings=tuple(name for name in found[0].settings if name != SEED and not name.startswith(NO_SETTINGS)),
            seeds=(SEED,),
        ),
        notes=_notes(chosen, is_final, without, unreadable),
    )


def _read_all(folder: Path) -> tuple[list[_RunFiles], list[str]]:
    """The runs, and what is wrong with those that cannot be read."""
    found, unreadable = [], []
    for name in run_names(folder, CONFIG):
        place = folder / name
        try:
            config = read_saved(place / CONFIG)
        except UserError as error:
            unreadable.append(str(error))
            continue
        settings = {key: _text(value) for key, value in flatten(config.model_dump(mode="json")).items()}
        found.append(_RunFiles(name, place, settings, _summary(place / SUMMARY), read_rows(place / LOG)))
    keys = dict.fromkeys(key for run in found for key in run.settings)
    return [
        _RunFiles(run.name, run.folder, {key: run.settings.get(key, "") for key in keys}, run.summary, run.log)
        for run in found
    ], unreadable


def _summary(path: Path) -> dict[str, float]:
    """Its numbers, with dots in their names; none where there is no file, or a damaged one."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return {k: v for k, v in flatten(values).items() if _is_number(v)} if isinstance(values, dict) else {}


def _values(run: _RunFiles, metric: str, is_final: bool) -> Iterator[tuple[str, str]]:
    """Step and value; without step 0, at which every run is its base."""
    if is_final:
        if metric in run.summary:
            yield "", repr(run.summary[metric])
        return
    for row in run.log:
        if _is_number(row.get(STEP)) and row[STEP] > 0 and _is_number(row.get(metric)):
            yield str(row[STEP]), repr(row[metric])


def _metrics(found: Sequence[_RunFiles]) -> list[str]:
    """All there are, those of the summaries first."""
    rows = [row for run in found for row in (run.summary, *run.log)]
    return [key for key in dict.fromkeys(key for row in rows for key in row) if key != STEP]


def _notes(metric: str, is_final: bool, without: Sequence[str], unreadable: Sequence[str]) -> tuple[str, ...]:
    notes = []
    if is_final:
        notes.append("scores are those at the end of each run; over the steps, with --metric eval/DATASET/accuracy")
    else:
        notes.append("step 0, at which every run is its base, is left out")
    if without:
        notes.append(f"runs without {metric} are left out: {listed(without)}")
    if unreadable:
        notes.append(f"runs that cannot be read are left out: {listed(unreadable)}")
    return tuple(notes)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _text(value: Any) -> str:
    return "" if value is None else value if isinstance(value, str) else json.dumps(value)
