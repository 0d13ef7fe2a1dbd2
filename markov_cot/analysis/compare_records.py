"""Scores of single items that a run kept: its evaluations' samples, and the answers behind its final score."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from markov_cot.analysis.item_scores import ItemScores
from markov_cot.analysis.score_files import RESULTS, SAMPLES, TaskScores, read_side
from markov_cot.analysis.score_tables import read_results
from markov_cot.analysis.sweep_rows import sha256_of
from markov_cot.evaluation.run import Run
from markov_cot.tracking.step_files import final_file, validation_folder
from markov_cot.utils.errors import UserError

HELD_OUT = "held-out problems"
"""The task that the final score of a run is of."""
ASKED = ("passage", "question", "choices", "answer", "answers")
"""What makes two held-out problems the same."""
_TRAINED = "trained"


@dataclass(frozen=True)
class Records:
    """What was kept of a task."""

    scores: TaskScores
    checkpoint: str | None
    """What was evaluated; None where no results file says so."""


@dataclass(frozen=True)
class RunRecords:
    """All that a run kept."""

    tasks: Mapping[str, Records] = field(default_factory=dict)
    inputs: Mapping[str, str] = field(default_factory=dict)
    """SHA-256 of the files read."""
    problems: Sequence[str] = ()
    """What is wrong with files that cannot be read; they are left out."""


def read_records(run: Run, step: int) -> RunRecords:
    """Return what a run, whose last step is given, kept of single items."""
    tasks: dict[str, Records] = {}
    inputs: dict[str, str] = {}
    problems = []
    sources: tuple[Callable[[], RunRecords], ...] = (
        lambda: _final_answers(run, step),
        lambda: _evaluations(run.folder / "eval"),
    )
    for read in sources:
        try:
            found = read()
        except UserError as error:
            problems.append(str(error))
            continue
        tasks |= found.tasks
        inputs |= found.inputs
    return RunRecords(tasks, inputs, problems)


def _final_answers(run: Run, step: int) -> RunRecords:
    """The answers behind the final score, as records of a task of their own; none where they were not kept."""
    path = final_file(validation_folder(run.folder), _TRAINED)
    rows = run.final_answers(_TRAINED)
    if not rows:
        return RunRecords()
    found = ItemScores()
    try:
        for number, row in enumerate(rows):
            asked = {key: row.get(key) for key in ASKED}
            found.contents[str(number)] = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()
        for metric, key in {"exact_match,primary": "right", "answer_logprob,none": "answer_logprob"}.items():
            if all(row[key] is not None for row in rows):
                found.scores[metric] = {str(number): float(row[key]) for number, row in enumerate(rows)}
    except (AttributeError, KeyError, TypeError, ValueError):
        raise UserError(f"{path}: has a row that is none of an answer; remove the file") from None
    primary = next(iter(found.scores), None)
    tasks = {HELD_OUT: Records(TaskScores(found, primary=primary), f"step {step}")} if primary else {}
    return RunRecords(tasks, {str(path): sha256_of(path)})


def _evaluations(folder: Path) -> RunRecords:
    """The samples of `markov-cot eval`, with what the newest results file of each task says of them."""
    if not any(folder.glob(SAMPLES)):
        return RunRecords()
    side = read_side(folder)
    found = {task: Records(scores, None) for task, scores in side.tasks.items()}
    inputs = {str(each.path): each.sha256 for each in side.files}
    for path in sorted(folder.glob(RESULTS)):  # their names have the time
        for task, results in read_results(path).items():
            if task in found:
                scores = replace(found[task].scores, primary=results.primary, settings=results.settings)
                found[task] = Records(scores, _checkpoint(path))
                inputs[str(path)] = sha256_of(path)
    return RunRecords(found, inputs)


def _checkpoint(results: Path) -> str | None:
    """What a results file of ours is of."""
    try:
        found: Any = json.loads(results.read_text(encoding="utf-8"))["config"]["model_args"]["checkpoint"]
    except (LookupError, TypeError):  # lm-evaluation-harness's own
        return None
    return found if isinstance(found, str) else None
