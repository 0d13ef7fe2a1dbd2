"""What `markov-cot eval` does: read the options, show progress, print tables or JSON."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from markov_cot.cli.launched import is_first, is_one_of_several
from markov_cot.cli.quiet import quiet_libraries
from markov_cot.cli.signals import ending_at_once, stop_on_signal
from markov_cot.cli.tables import plain_table, print_table
from markov_cot.config.loading import read_assignments
from markov_cot.distributed.process_group import leave, noticing_loss
from markov_cot.evaluation import item_metrics as scores
from markov_cot.evaluation.evaluate import AGAIN, Advance, EvalReport, Request, Track, evaluate
from markov_cot.evaluation.learning_curve import Curve, evaluate_all
from markov_cot.evaluation.loaded_model import Overrides
from markov_cot.evaluation.meanings import BY_EXTRACTOR, meaning
from markov_cot.evaluation.preference import MAJORITY
from markov_cot.evaluation.report import TaskReport
from markov_cot.evaluation.results import Measure
from markov_cot.evaluation.statistics import PairedComparison
from markov_cot.evaluation.suites import Suite, SuiteTask, read_suite
from markov_cot.utils.errors import UserError
from markov_cot.utils.text import visible

GREEDY = 0.0
READER = "reward.reader"
BAR = 20
BAR_AND_TIMES = BAR + len(" 00:00:00 left 00:00:00 ")
"""Columns."""
COUNTS = "*"
ACCURACY = f"{scores.ACCURACY},"
_ACCURACIES = (ACCURACY, MAJORITY)
_BY_EXTRACTOR = ("pass@", "maj@", *(f"{name}," for name in BY_EXTRACTOR))


def run_eval(options: Mapping[str, Any], settings: tuple[str, ...], *, all_checkpoints: bool, as_json: bool) -> None:
    """Evaluate as asked and print the outcome; of several processes, the first one prints."""
    if all_checkpoints and (options["checkpoint"] or options["against"]):
        raise UserError("--all-checkpoints: takes every checkpoint of --run; leave out --checkpoint and --against")
    request = make_request(options, settings)
    quiet_libraries()
    errors = Console(stderr=True, markup=False, highlight=False, quiet=not is_first())

    def say(message: str) -> None:
        errors.print(visible(message), soft_wrap=True)

    signals = stop_on_signal() if is_one_of_several() else contextlib.nullcontext()
    with ending_at_once(), signals, noticing_loss("eval", AGAIN), progress(errors) as track:
        if all_checkpoints:
            run, curves = evaluate_all(request, track, say)
        else:
            report = evaluate(request, track, say)
        leave()
    if not is_first():
        return
    if all_checkpoints:
        print_curves(run, curves, as_json=as_json)
    elif as_json:
        print(json.dumps(report.document))
    else:
        print_report(report)


def make_request(options: Mapping[str, Any], settings: tuple[str, ...]) -> Request:
    """The options as a request. Raises `UserError` for options that do not go together."""
    suite = read_suite(options["suite"]) if options["suite"] else None
    if suite and options["datasets"]:
        raise UserError("--suite: names its datasets itself; leave out --dataset, or leave out --suite")
    if options["temperature"] == GREEDY and (options["samples"] or 1) > 1:
        raise UserError("--samples: of a greedy CoT are all the same; give a --temperature above 0")
    seed = options["seed"] if options["seed"] is not None else suite.seed if suite else 0
    return Request(
        checkpoint=options["checkpoint"],
        run=options["run"],
        against=options["against"],
        tasks=_tasks(options, suite),
        task_fields=_task_fields(options),
        seed=seed,
        batch=options["batch"],
        out=Path(options["out"]) if options["out"] else None,
        overrides=overrides_of(options, settings),
    )


def overrides_of(options: Mapping[str, Any], assignments: tuple[str, ...]) -> Overrides:
    """What --model, --data-dir and --set say, and the readers that --reader names.

    A term of the actor's own reward cannot have those.
    """
    settings = read_assignments(assignments)
    if options["readers"]:
        if READER in settings:
            raise UserError(f"--reader: and --set {READER} say the same; leave one of them out")
        settings |= {READER: list(options["readers"]), "algorithm.actor_reward_weight": 0}
    return Overrides(options["model"], options["data_dir"], settings)


@contextlib.contextmanager
def progress(console: Console) -> Iterator[Track]:
    """Progress bars with the time left; yields the function that starts one."""
    columns = (
        TextColumn("{task.description}", markup=False),
        MofNCompleteColumn(),
        BarColumn(bar_width=BAR),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    bars = Progress(*columns, console=console)

    def track(description: str, total: int) -> Advance:
        bars.start()
        name = visible(description)
        if len(name) + 1 + len(f"{total}/{total}") + BAR_AND_TIMES > console.width:
            console.print(name, soft_wrap=True)
            name = ""
        bar = bars.add_task(name, total=total)
        return lambda count: bars.advance(bar, count)

    try:
        yield track
    finally:
        if bars.tasks:  # otherwise it would end what it has not begun, with a blank line
            bars.stop()


def print_report(report: EvalReport) -> None:
    """A table for each dataset, and what should be known beside its numbers."""
    console = Console(markup=False, highlight=False)
    for task in report.tasks:
        title = f"{task.name}, {task.settings['split']} split: {task.n:,} of {task.original:,} items"
        print_table(console, _table(report.subject, task), visible(title))
        for line in legend(task):
            console.print(visible(line), soft_wrap=True)
        console.print()
        if task.outcome.groups:
            title = f"{task.name} by group, {task.outcome.primary}"
            print_table(console, _groups(task), visible(title))
            console.print()
        for note in task.notes():
            console.print(visible(note), soft_wrap=True)
    console.print(visible(f"results: {report.results_file}"), soft_wrap=True)
    for task in report.tasks:
        console.print(visible(f"samples: {task.samples_file}"), soft_wrap=True)


def print_curves(run: str, curves: list[Curve], *, as_json: bool) -> None:
    """Score over steps of every dataset."""
    if as_json:
        print(json.dumps({"run": run, "datasets": {curve.name: curve.as_json() for curve in curves}}))
        return
    console = Console(markup=False, highlight=False)
    for curve in curves:
        title = f"{run} on {curve.name}, {curve.split} split: {curve.points[0].score.n:,} items"
        has_f1 = curve.points[0].f1 is not None
        table = plain_table("step", f"{curve.measure} [95 %]", *["F1 [95 %]"] * has_f1, "answer log-prob")
        for point in curve.points:
            step = "0 (base)" if point.step == 0 else str(point.step)
            best = " best here" if point is curve.best else ""
            f1 = [] if point.f1 is None else [_cell(point.f1)]
            table.add_row(step + best, _cell(point.score), *f1, _number(point.answer_logprob.mean))
        print_table(console, table, visible(title))
        for note in [*curve.notes(), f"plot: {curve.plot}"]:
            console.print(visible(note), soft_wrap=True)


def _table(subject: str, task: TaskReport) -> Table:
    """Accuracy by extractor, then the other metrics; small enough for 80 columns."""
    compared = (str(task.against), "difference [95 %]", "p") if task.reference else ()
    table = plain_table("accuracy/metric", f"{subject} [95 %]", *compared)
    primary = task.outcome.primary
    rows = shown_keys(task)
    for key, following in zip(rows, [*rows[1:], ""], strict=True):
        row = [label(key, primary), _cell(task.outcome.measures[key])]
        if task.reference:
            row += [_number(task.reference.measures[key].mean), *_difference(task.paired.get(key))]
        is_last_accuracy = key.startswith(_ACCURACIES) and not following.startswith(_ACCURACIES)
        table.add_row(*row, style="bold" if key == primary else None, end_section=is_last_accuracy)
    return table


def shown_keys(task: TaskReport) -> list[str]:
    """Every extractor's accuracy, the majority's, and the rest; what else is by extractor only of the default one."""
    primary = task.outcome.primary
    of = primary.split(",")[1]
    rest = [
        key
        for key in task.outcome.measures
        if not key.startswith((*_ACCURACIES, "pass@1,"))
        and (not key.startswith(_BY_EXTRACTOR) or key.endswith(f",{of}"))
    ]
    return [key for first in _ACCURACIES for key in task.outcome.measures if key.startswith(first)] + rest


def _groups(task: TaskReport) -> Table:
    """Accuracy by group (MMLU's subject), with the micro and the macro mean."""
    key = task.outcome.primary
    table = plain_table("group", "n", "mean [95 %]")
    for group, measures in task.outcome.groups.items():
        table.add_row(visible(group), str(measures[key].n), _cell(measures[key]))
    table.add_section()
    micro, macro = task.outcome.measures[key], task.outcome.macro[key]
    table.add_row("micro mean (over items)", str(micro.n), _cell(micro))
    table.add_row("macro mean (over groups)", str(macro.n), _cell(macro))
    return table


def label(key: str, primary: str) -> str:
    """A row's name; the one that counts has a star."""
    name, of = key.split(",")
    text = of if f"{name}," == ACCURACY else f"{name}, by letter" if of == "letter" else name
    return f"{text} {COUNTS}" if key == primary else text


def legend(task: TaskReport) -> list[str]:
    """What each row is, which one counts, and which extractors found nothing; at most 80 columns wide."""
    primary = task.outcome.primary
    rows = {label(key, primary): _meaning(task, key) for key in shown_keys(task)}
    width = max(map(len, rows))
    lines = [f"{name:<{width}}  {text}" for name, text in rows.items() if text]
    others = "; the others read the same answers by other rules" if task.outcome.invalid else ""
    return [*lines, f"{COUNTS} is the one that counts{others}"]


def _meaning(task: TaskReport, key: str) -> str:
    text = meaning(task.outcome.kind, key)
    name, of = key.split(",")
    answers = task.n * int(task.settings["samples"])
    if f"{name}," == ACCURACY and task.outcome.invalid[of] == answers:
        return f"{text}: none here" if text else "none here"
    return text


def _cell(measure: Measure) -> str:
    """Mean and interval."""
    if measure.nan:
        return f"NaN ({measure.nan} of {measure.n})"
    if measure.low is None:
        return _number(measure.mean)
    return f"{_number(measure.mean)} [{measure.low:.3f}, {measure.high:.3f}]"


def _difference(paired: PairedComparison | None) -> tuple[str, str]:
    """Difference with its interval, and the p-value."""
    if paired is None:
        return "", ""
    p = "" if paired.p_value is None else f"{paired.p_value:.2g}"
    # A float cannot hold the p-value of a thousand flips to one side.
    p = "<1e-300" if p == "0" else p
    return f"{paired.difference:+.3f} [{paired.low:+.3f}, {paired.high:+.3f}]", p


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _task_fields(options: Mapping[str, Any]) -> dict[str, Any]:
    """What the command line says of every task, a suite's too."""
    named = {"split": options["split"], "limit": options["limit"], "samples": options["samples"]}
    given = {key: value for key, value in named.items() if value is not None}
    if options["extractors"]:
        given["extractors"] = options["extractors"]
    if options["temperature"] is not None:
        given["temperature"] = options["temperature"] or None
    return given


def _tasks(options: Mapping[str, Any], suite: Suite | None) -> tuple[SuiteTask, ...]:
    if suite:
        return suite.tasks
    return tuple(SuiteTask(dataset=dataset) for dataset in dict.fromkeys(options["datasets"]))
