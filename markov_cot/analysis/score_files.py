"""One side of a comparison: every item's scores, as `markov-cot` and lm-evaluation-harness keep them, or totals alone.

A side is a samples file, a folder with samples and results files, a results file, or a CSV table of reported scores. A
metric's key is `name,filter`, as in lm-evaluation-harness.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from markov_cot.analysis.item_scores import ItemScores, read_samples
from markov_cot.analysis.score_tables import Reported, read_results, read_table
from markov_cot.checkpoints.manifest import checksum
from markov_cot.data.reading import is_dir
from markov_cot.evaluation.statistics import mean_and_stderr
from markov_cot.utils.errors import UserError

SAMPLES, RESULTS = "samples_*.jsonl", "results_*.json"
_TASK_FILE = re.compile(r"samples_(?P<task>.+?)(?:_(?P<time>\d{4}-\d\d-\d\dT[\d.:-]+))?\.jsonl(?:\.gz)?")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT[\d.:-]+\d")
_SUBFOLDER = "eval"
"""Where a run keeps its evaluations."""
_WANTED = "give a folder of evaluation records, a samples_*.jsonl, a results_*.json or a CSV table"


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file that was read."""

    path: Path
    sha256: str
    rows: int


@dataclass(frozen=True)
class TaskScores:
    """A task on one side."""

    items: ItemScores | None
    """None where totals are all there is."""
    reported: Mapping[str, Reported] = field(default_factory=dict)
    """Totals, by metric."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """What the scores depend on besides the model, as far as the file says."""
    primary: str | None = None
    """The metric that counts, where the file says so."""
    higher_is_better: Mapping[str, bool] = field(default_factory=dict)
    """By a metric's name, where the file says so."""
    is_group: bool = False
    """Whether it stands for several tasks together, whose errors are pooled."""

    @property
    def metrics(self) -> list[str]:
        """Keys of what can be compared."""
        return list(self.items.scores if self.items else self.reported)

    def total(self, metric: str) -> Reported:
        """Return a metric's total: that of the items where there are any, else as it was reported."""
        if self.items is None:
            return self.reported[metric]
        scores = list(self.items.scores[metric].values())
        mean, stderr = mean_and_stderr(scores)
        return Reported(mean, 0.0, stderr, 0.0, len(scores))


@dataclass(frozen=True)
class Side:
    """What one side holds."""

    path: Path
    files: Sequence[SourceFile]
    tasks: Mapping[str, TaskScores]
    notes: Sequence[str] = ()


def read_side(path: Path) -> Side:
    """Return what is at `path`. Raises `UserError` for what cannot be read, is empty or damaged, or is something else.

    Of a folder that holds several evaluations the newest of each task counts, with a note. Samples are preferred: where
    there are any, tasks without them are passed over.
    """
    if is_dir(path):
        return _read_folder(path)
    if not path.exists():
        raise UserError(f"{path}: does not exist; {_WANTED}")
    name = path.name.removesuffix(".gz")
    if name.endswith(".csv"):
        reported, rows = read_table(path)
        tasks = {task: TaskScores(None, each) for task, each in reported.items()}
        return Side(path, [SourceFile(path, checksum(path), rows)], tasks)
    if name.endswith(".json"):
        results = read_results(path)
        tasks = {
            task: TaskScores(None, each.reported, each.settings, each.primary, each.higher_is_better, each.is_group)
            for task, each in results.items()
            if each.reported
        }
        if not tasks:
            raise UserError(f"{path}: holds no scores; give a results_*.json that lm-evaluation-harness or eval wrote")
        return Side(path, [SourceFile(path, checksum(path), len(tasks))], tasks)
    return _read_files(path, [path], [])


def task_of(path: Path) -> str:
    """Return the task that a samples file is of, by its name.

    >>> task_of(Path("samples_gsm8k_2025-03-08T12-01-02.345678.jsonl"))
    'gsm8k'
    """
    found = _TASK_FILE.fullmatch(path.name)
    return found["task"] if found else path.name.removesuffix(".gz").removesuffix(".jsonl")


def _read_folder(folder: Path) -> Side:
    samples, results = _files_in(folder)
    if not samples and not results:
        inner = [each for each in sorted(folder.iterdir()) if is_dir(each) and any(_files_in(each))]
        chosen = [each for each in inner if each.name == _SUBFOLDER] or inner
        if len(chosen) > 1:
            names = ", ".join(each.name for each in chosen)
            raise UserError(f"{folder}: holds several evaluations ({names}); name one of these folders")
        if not chosen:
            raise UserError(f"{folder}: holds no samples_*.jsonl and no results_*.json; {_WANTED}")
        return _read_folder(chosen[0])
    if not samples:
        return read_side(results[-1])
    return _read_files(folder, samples, results[-1:])


def _files_in(folder: Path) -> tuple[list[Path], list[Path]]:
    """Samples and results, each with the oldest first."""
    return sorted(folder.glob(SAMPLES), key=_age), sorted(folder.glob(RESULTS), key=_age)


def _age(path: Path) -> tuple[str, int, str]:
    """By the time that the name has, where it has one; by when it was written where not."""
    found = _TIME.search(path.name)
    return found[0] if found else "", path.stat().st_mtime_ns, path.name


def _read_files(path: Path, samples: Sequence[Path], results: Sequence[Path]) -> Side:
    newest = {task_of(each): each for each in samples}
    about = {task: each for file in results for task, each in read_results(file).items()}
    tasks, files = {}, [SourceFile(each, checksum(each), 1) for each in results]
    for task, file in sorted(newest.items()):
        items, rows = read_samples(file)
        files.append(SourceFile(file, checksum(file), rows))
        known = about.get(task)
        if known:
            tasks[task] = TaskScores(items, known.reported, known.settings, known.primary, known.higher_is_better)
        else:
            tasks[task] = TaskScores(items)
    return Side(path, files, tasks, list(_notes(path, samples, newest, set(about) - set(tasks))))


def _notes(path: Path, samples: Sequence[Path], newest: Mapping[str, Path], without: Iterable[str]) -> Iterable[str]:
    if older := len(samples) - len(newest):
        yield f"{path}: {older} older samples {'file is' if older == 1 else 'files are'} passed over"
    if names := sorted(without):
        yield f"{path}: has totals alone of {', '.join(names)}, which are passed over beside samples"
