"""results_<time>.json: lm-evaluation-harness's layout, so that its tools read it, with our own numbers beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from markov_cot.evaluation.item_metrics import Key
from markov_cot.evaluation.results import Measure, TaskMetrics
from markov_cot.evaluation.statistics import PairedComparison, small_sample_note

VERSION = 1
"""Of what a task's numbers mean; raised when they can no longer be compared with earlier ones."""
NOT_AVAILABLE = "N/A"
"""The harness's word for a missing stderr."""


@dataclass(frozen=True)
class TaskReport:
    """One dataset's part of a report."""

    name: str
    outcome: TaskMetrics
    settings: dict[str, Any]
    """What the numbers depend on; goes into `configs`."""
    original: int
    """Items in the split."""
    too_long: int
    """Items skipped because they do not fit into the model's context."""
    broken: int
    """Rows skipped because they are broken."""
    source: str
    note: str = ""
    """What to know about where the split comes from; may be empty."""
    against: str | None = None
    """Name of what it is compared with."""
    reference: TaskMetrics | None = None
    """Of that, on the same items."""
    paired: dict[Key, PairedComparison] = field(default_factory=dict)
    """This minus the reference."""
    samples_file: str | None = None

    @property
    def n(self) -> int:
        """Items evaluated."""
        return self.outcome.measures[self.outcome.primary].n

    def notes(self) -> list[str]:
        """Sentences to be read beside the numbers."""
        small = small_sample_note(self.n, is_share=self.outcome.kind != "continuation")
        notes = [small] if small else []
        if self.too_long:
            notes.append(f"{self.too_long} problems are longer than the model's context and were skipped.")
        if self.broken:
            notes.append(f"{self.broken} broken rows were skipped.")
        for which, outcome in (("", self.outcome), (f" of {self.against}", self.reference)):
            for key, measure in outcome.measures.items() if outcome else ():
                if measure.nan:
                    notes.append(f"{key}{which} is NaN for {measure.nan} of {measure.n} items and is not averaged.")
        if self.outcome.constants:
            notes += self.outcome.constants.notes()
        if self.note:
            notes.append(f"{self.note}.")
        return notes


def as_harness(tasks: Sequence[TaskReport], config: Mapping[str, Any], date: float) -> dict[str, Any]:
    """The whole report. `config` says what was evaluated and how; `date` is a UNIX time."""
    results: dict[str, Any] = {}
    subtasks: dict[str, list[str]] = {}
    for task in tasks:
        results[task.name] = _harness_metrics(task.name, task.outcome.measures, task.n, task.outcome.macro)
        of_groups = {f"{task.name}_{group}": measures for group, measures in task.outcome.groups.items()}
        results |= {
            name: _harness_metrics(name, measures, next(iter(measures.values())).n)
            for name, measures in of_groups.items()
        }
        subtasks[task.name] = list(of_groups)
    return {
        "results": results,
        "group_subtasks": subtasks,
        "configs": {task.name: {"task": task.name, "num_fewshot": 0, **task.settings} for task in tasks},
        "versions": {task.name: VERSION for task in tasks},
        "n-shot": {task.name: 0 for task in tasks},
        "n-samples": {task.name: {"original": task.original, "effective": task.n} for task in tasks},
        "config": {"model": "markov-cot", **config},
        "date": date,
        "markov_cot": {task.name: _own(task) for task in tasks},
    }


def _harness_metrics(
    name: str, measures: Mapping[Key, Measure], n: int, macro: Mapping[Key, Measure] | None = None
) -> dict[str, Any]:
    flat: dict[str, Any] = {"alias": name, "sample_len": n}
    for key, measure in measures.items():
        flat |= _harness_metric(key, measure)
    for key, measure in (macro or {}).items():
        metric, of = key.split(",")
        flat |= _harness_metric(f"{metric}_macro,{of}", measure)
    return flat


def _harness_metric(key: Key, measure: Measure) -> dict[str, Any]:
    metric, of = key.split(",")
    stderr = NOT_AVAILABLE if measure.stderr is None else measure.stderr
    return {key: measure.mean, f"{metric}_stderr,{of}": stderr}


def _own(task: TaskReport) -> dict[str, Any]:
    """What the harness's layout has no place for; unlike there, what is missing is null."""
    own: dict[str, Any] = {
        "n": task.n,
        "total": task.original,
        "skipped_too_long": task.too_long,
        "skipped_broken": task.broken,
        "source": task.source,
        "primary": task.outcome.primary,
        "metrics": {key: asdict(measure) for key, measure in task.outcome.measures.items()},
        "invalid": task.outcome.invalid,
        "notes": task.notes(),
        "samples_file": task.samples_file,
    }
    if task.outcome.groups:
        own["macro"] = {key: asdict(measure) for key, measure in task.outcome.macro.items()}
    if task.outcome.constants:
        own["constants"] = asdict(task.outcome.constants)
    if task.reference:
        own["against"] = {
            "checkpoint": task.against,
            "metrics": {key: asdict(measure) for key, measure in task.reference.measures.items()},
            "paired": {key: asdict(paired) for key, paired in task.paired.items()},
        }
    return own
