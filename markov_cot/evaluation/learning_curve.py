"""`markov-cot eval --all-checkpoints`: a run's score over its steps, as numbers, a plot and TensorBoard scalars."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from markov_cot.checkpoints.checkpoint import BEST, follow, list_steps, step_of
from markov_cot.evaluation.evaluate import (
    Evaluator,
    Request,
    Track,
    file_name,
    processes_of,
    reference_source,
    refusing_to_write,
)
from markov_cot.evaluation.item_metrics import ACCURACY, F1, LOGPROB, PER_TOKEN
from markov_cot.evaluation.loaded_model import ModelSource, read_source
from markov_cot.evaluation.locate import BASE, CheckpointRef, find_run
from markov_cot.evaluation.records import Record
from markov_cot.evaluation.results import Measure, TaskMetrics
from markov_cot.evaluation.statistics import small_sample_note
from markov_cot.evaluation.task import EvalTask
from markov_cot.utils.errors import UserError
from markov_cot.utils.files import replacing
from markov_cot.utils.text import visible


@dataclass(frozen=True, slots=True)
class Point:
    """One checkpoint's score; step 0 is the untrained base."""

    step: int
    score: Measure
    answer_logprob: Measure
    f1: Measure | None = None
    """By the same rule as the score, where answers are texts."""


@dataclass(frozen=True, slots=True)
class RunBest:
    """The checkpoint that a run's link `best` names, which is what `--checkpoint best` stands for."""

    step: int
    by: str
    """By what the run chose it."""

    def describe(self) -> str:
        """A sentence beside another choice."""
        return f"the run's own best (--checkpoint best): step {self.step}, by {self.by}, while training."


@dataclass(frozen=True)
class Curve:
    """One dataset's scores over the steps of a run."""

    name: str
    split: str
    measure: str
    """Key of the score: accuracy, or log-prob per token for continuations."""
    points: list[Point]
    plot: Path
    run_best: RunBest | None
    """The best by the run's own account; None where it has none."""

    @property
    def best(self) -> Point | None:
        """The highest score, the earliest of equals; None when all are NaN."""
        known = [point for point in self.points if point.score.mean is not None]
        return max(known, key=lambda point: point.score.mean or 0.0) if known else None

    def notes(self) -> list[str]:
        """Sentences to be read beside the numbers."""
        small = small_sample_note(self.points[0].score.n, is_share=self.measure != PER_TOKEN)
        best = None if self.best is None else f"best here: step {self.best.step}, by {self.best_by}."
        flattered = "The best was chosen on the test split, so its score flatters it; choose with --split validation."
        own = None if self.run_best is None else self.run_best.describe()
        return [note for note in (small, best, own, flattered if self.split == "test" else None) if note]

    @property
    def best_by(self) -> str:
        """By what the best was chosen."""
        return f"{self.measure} on {self.points[0].score.n:,} items of the {self.split} split"

    def as_json(self) -> dict[str, Any]:
        """For `--json`."""
        best = self.best
        return {
            "measure": self.measure,
            "split": self.split,
            "points": [asdict(point) for point in self.points],
            "best": None if best is None else best.step,
            "best_by": self.best_by,
            "run_best": None if self.run_best is None else self.run_best.step,
            "run_best_by": None if self.run_best is None else self.run_best.by,
            "plot": str(self.plot),
            "notes": self.notes(),
        }


def evaluate_all(request: Request, track: Track, say: Callable[[str], None]) -> tuple[str, list[Curve]]:
    """Evaluate every checkpoint of a run, and its base, in all processes of a launcher together.

    Returns the run's name and a curve for each dataset. The first process writes the files.
    """
    with processes_of(request) as processes:
        with processes.together():
            run, sources, base = run_sources(request, say)
            evaluator = Evaluator(replace(request, run=run), sources[0], processes=processes)
        of_base = [evaluator.run(work, evaluator.subject, base, track) for work in evaluator.workloads]
        by_step: dict[int, list[TaskMetrics]] = {0: _outcomes(evaluator, of_base)}
        for source in sources:
            by_step[step_of(Path(source.ref.name))] = _outcomes(evaluator, _run(evaluator, source, track, of_base))
        with processes.together():
            own = _run_best(request.overrides.folder("checkpoints_dir") / run, sources)
            curves = [_curve(evaluator, work, i, by_step, own) for i, work in enumerate(evaluator.workloads)]
            if processes.is_first:
                with refusing_to_write(evaluator.folder):
                    for curve in curves:
                        plot(curve)
                    _log(request.overrides.folder("runs_dir") / run, curves)
    return run, curves


def run_sources(request: Request, say: Callable[[str], None]) -> tuple[str, list[ModelSource], ModelSource]:
    """The run's name, its checkpoints of trained steps, and its base."""
    folder = request.overrides.folder("checkpoints_dir")
    run = find_run(request.run, folder)
    if request.run is None:
        say(f"the newest run is {run}")
    # Step 0 is the base's, which is measured anyway; the checkpoint of a warm start's step 0 is not the base.
    kept = [step for step in list_steps(folder / run) if step_of(step) > 0]
    if not kept:
        raise UserError(f"run {run}: has no checkpoint of a trained step yet; train on, or pass --checkpoint base")
    steps = [CheckpointRef(step.name, step.resolve(), run) for step in kept]
    sources = [read_source(step, request.overrides) for step in steps]
    if plain := [step for step in steps if not step.has_manifest]:
        raise UserError(f"checkpoint {plain[0].folder}: has no manifest to tell its settings; move it elsewhere")
    return run, sources, reference_source(request, sources[0], BASE, say)


def _run(
    evaluator: Evaluator, source: ModelSource, track: Track, of_base: Sequence[list[Record]]
) -> list[list[Record]]:
    with evaluator.processes.together():
        evaluator.subject.load(source)
    pairs = zip(evaluator.workloads, of_base, strict=True)
    return [evaluator.run(work, evaluator.subject, source, track, baseline) for work, baseline in pairs]


def _outcomes(evaluator: Evaluator, records: Sequence[list[Record]]) -> list[TaskMetrics]:
    return [evaluator.outcome(*pair) for pair in zip(evaluator.workloads, records, strict=True)]


def _run_best(run_folder: Path, sources: Sequence[ModelSource]) -> RunBest | None:
    folder = follow(run_folder, BEST)
    of_best = [source for source in sources if folder is not None and source.ref.name == folder.name]
    if folder is None or not of_best:
        return None
    config = of_best[0].config(of_best[0].default_task())
    return RunBest(
        step_of(folder), f"held-out score on {config.validation.problems:,} problems of the validation split"
    )


def _curve(
    evaluator: Evaluator, work: EvalTask, number: int, by_step: dict[int, list[TaskMetrics]], own: RunBest | None
) -> Curve:
    outcomes = {step: outcomes[number] for step, outcomes in by_step.items()}
    key = outcomes[0].primary
    f1 = key.replace(ACCURACY, F1)
    points = [
        Point(step, each.measures[key], each.measures[LOGPROB], each.measures.get(f1) if f1 != key else None)
        for step, each in outcomes.items()
    ]
    name = file_name(work.task.title)
    return Curve(work.task.title, work.task.split, key, points, evaluator.folder / f"accuracy_{name}.png", own)


def plot(curve: Curve) -> None:
    """Draws the score over the steps with its 95 % band into `curve.plot`."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib.figure import Figure

    # What is not known is NaN to matplotlib, which leaves a gap.
    steps = [point.step for point in curve.points]
    means, lows, highs = (
        [math.nan if value is None else value for value in values]
        for values in zip(*((p.score.mean, p.score.low, p.score.high) for p in curve.points), strict=True)
    )
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(steps, means, marker="o", markersize=3)
    axes.fill_between(steps, lows, highs, alpha=0.2, linewidth=0)
    axes.set(xlabel="step (0: untrained base)", ylabel=curve.measure)
    # A dataset's name is not ours: a dollar sign in it is no formula.
    axes.set_title(visible(f"{curve.name}, {curve.split} split"), parse_math=False)
    axes.grid(alpha=0.3)
    with replacing(curve.plot) as file:
        figure.savefig(file, format="png", dpi=150)


def _log(folder: Path, curves: Sequence[Curve]) -> None:
    with SummaryWriter(str(folder)) as board:
        for curve in curves:
            for point in curve.points:
                for tag, value in _scalars(curve, point).items():
                    board.add_scalar(f"eval_all/{curve.name}/{tag}", value, point.step)


def _scalars(curve: Curve, point: Point) -> dict[str, float]:
    score = {"accuracy": point.score.mean, "accuracy_low": point.score.low, "accuracy_high": point.score.high}
    values = {"answer_logprob": point.answer_logprob.mean, **(score if ACCURACY in curve.measure else {})}
    if point.f1:
        values["f1"] = point.f1.mean
    return {tag: value for tag, value in values.items() if value is not None}
