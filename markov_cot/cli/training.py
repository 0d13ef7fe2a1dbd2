"""What `markov-cot train` does: resolve the config, show progress, sum up at the end."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from markov_cot.alarms.monitor import Event
from markov_cot.cli.launched import is_first, is_one_of_several, say_interrupted
from markov_cot.cli.profiling import profiled
from markov_cot.cli.quiet import quiet_libraries
from markov_cot.cli.signals import INTERRUPTED, LAUNCHERS_PATIENCE, stop_on_signal
from markov_cot.config import Config, apply_override, build_config, flatten, read_recipe, recipe_names
from markov_cot.errors import UserError
from markov_cot.evaluation.validation import Score
from markov_cot.processes import PATIENCE, leave, noticing_loss
from markov_cot.resuming import ACCEPT
from markov_cot.session import Session, check_run_name, open_session
from markov_cot.text import visible
from markov_cot.tracking import CONFIG
from markov_cot.trainer import Outcome, Trainer

DONE, STOPPED = 0, 3
QUICKSTART = "quickstart"
SAVES_FOR_ROLLBACK = 10
"""Checkpoints in a run below which a rollback is said to lose much of it."""
STYLES = {"cleared": "green", "warn": "yellow", "critical": "bold red"}


def resolve_config(
    recipe: str | None, options: Mapping[str, Any], settings: tuple[str, ...], saved: Path | None = None
) -> tuple[Config, str]:
    """The validated config and the recipe's name. `saved` is the config of a run that is resumed."""
    dataset = options.get("data.dataset")
    source = str(saved) if saved else recipe or (dataset if dataset in recipe_names() else None)
    if source is None and dataset is None:
        source = QUICKSTART
    # A dataset of the user's own has no recipe; it starts from the defaults.
    values = read_recipe(source) if source else {}
    for key, value in options.items():
        apply_override(values, f"{key}={yaml.safe_dump(value, default_flow_style=True).splitlines()[0]}")
    for assignment in settings:
        apply_override(values, assignment)
    return build_config(values, source or "settings"), Path(source or dataset or QUICKSTART).stem


def start(
    recipe: str | None,
    options: Mapping[str, Any],
    settings: tuple[str, ...],
    run: str | None,
    *,
    resume: bool,
    accept_changes: bool = False,
    profile: bool = False,
) -> int:
    """Trains as asked. Returns the exit code."""
    console = Console(stderr=True, markup=False, highlight=False, quiet=not is_first())
    quiet_libraries()
    if accept_changes and not resume:
        raise UserError(f"{ACCEPT}: has a meaning only with --resume")
    terminated = functools.partial(PATIENCE.limit, LAUNCHERS_PATIENCE)
    with ending_at_once(), stop_on_signal(terminated) as stop, noticing_loss():
        saved = _saved_config(run, options, settings) if resume else None
        config, name = resolve_config(recipe, options, settings, saved)
        session = open_session(config, run, name, resume=resume, accept_changes=accept_changes)
        _introduce(console, session)
        trainer = Trainer(session)
        if resume:
            trainer.resume()
            console.print(f"resuming at step {trainer.progress.step}")
        with contextlib.ExitStack() as stack:
            watch = stack.enter_context(_progress(console, trainer))
            if profile:
                watch = stack.enter_context(profiled(console, trainer, watch))
            stack.enter_context(stop.after_the_step())
            outcome = trainer.run(watch, lambda: stop.asked)
        code = _report(console, trainer, outcome)
        leave()
    return code


@contextlib.contextmanager
def ending_at_once() -> Iterator[None]:
    """An interruption ends one of several processes without clean-up, in which it would wait for the others."""
    try:
        yield
    except KeyboardInterrupt:
        if not is_one_of_several():
            raise
        say_interrupted()
        os._exit(INTERRUPTED)


def _report(console: Console, trainer: Trainer, outcome: Outcome) -> int:
    """Says how the run ended. Returns the exit code."""
    if outcome.alarms:
        names = ", ".join(event.alarm for event in outcome.alarms)
        where = f"saved {trainer.folder}" if trainer.folder.exists() else "this step could not be saved"
        console.print(visible(f"stopped by a critical alarm ({names}); {where}"), soft_wrap=True)
        return STOPPED
    if outcome.interrupted:
        again = f"markov-cot train --run {trainer.session.folders.run.name} --resume"
        console.print(visible(f"interrupted; saved {trainer.folder}. Go on with: {again}"), soft_wrap=True)
        return INTERRUPTED
    _conclude(trainer, outcome)
    return DONE


def _saved_config(run: str | None, options: Mapping[str, Any], settings: tuple[str, ...]) -> Path:
    if run is None:
        raise UserError("--resume: needs the run's name; pass --run NAME")
    check_run_name(run)
    overrides = read_overrides(options, settings)
    path = Path(overrides.get("checkpoint.runs_dir", "runs"), run, CONFIG)
    if not path.is_file():
        raise UserError(f"run {run}: there is no {path} to resume from; leave out --resume to start the run")
    return path


def read_overrides(options: Mapping[str, Any], settings: tuple[str, ...]) -> dict[str, Any]:
    """Options and `--set` assignments as one flat mapping."""
    values: dict[str, Any] = {}
    for assignment in settings:
        apply_override(values, assignment)
    return dict(options) | flatten(values)


def _introduce(console: Console, session: Session) -> None:
    config, splits = session.config, session.splits
    where = (
        f": {config.model.name} on {splits.name} "
        f"({len(splits.train):,} training problems from {splits.source}), {session.policy.device}"
    )
    console.print(Text.assemble((session.folders.run.name, "bold"), visible(where)))
    if splits.note:
        console.print(visible(splits.note), soft_wrap=True)
    if splits.skipped:
        console.print(f"{splits.skipped} broken rows were skipped")
    every = config.checkpoint.every
    if config.alarms.action == "rollback" and every * SAVES_FOR_ROLLBACK > config.steps:
        console.print(
            f"alarms.action=rollback: checkpoints are {every} steps apart, so a rollback loses up to as many; "
            "lower checkpoint.every to lose fewer",
            soft_wrap=True,
        )
    console.print(visible(f"TensorBoard: tensorboard --logdir {config.checkpoint.runs_dir}"))


@contextlib.contextmanager
def _progress(console: Console, trainer: Trainer) -> Iterator[Any]:
    """A progress bar; yields the function that advances it."""
    columns = (
        TextColumn("step"),
        MofNCompleteColumn(),
        BarColumn(bar_width=20),
        TextColumn("{task.fields[shown]}"),
        TimeRemainingColumn(),
    )
    accuracy_key = f"eval/{trainer.session.splits.name}/"
    latest: dict[str, float] = {}
    rollbacks = trainer.progress.rollbacks
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("", total=trainer.session.config.steps, completed=trainer.progress.step, shown="")

        def watch(step: int, metrics: dict[str, float], events: Sequence[Event]) -> None:
            nonlocal rollbacks
            if trainer.progress.rollbacks > rollbacks:
                rollbacks = trainer.progress.rollbacks
                scale = f"{trainer.progress.lr_scale:g} times the learning rate"
                console.print(f"rolled back to step {step - 1}, and on with {scale}")
            for event in events:
                console.print(
                    Text(visible(f"{event.alarm}, step {event.step}, {event.level}: {event.diagnosis}")),
                    style=STYLES[event.level],
                )
            latest.update(metrics)
            held_out = latest.get(accuracy_key + "accuracy", latest.get(accuracy_key + "answer_logprob"))
            shown = [
                f"reward {latest['reward/answer_logprob']:.3f}",
                "" if held_out is None else f"held-out {held_out:.3f}",
                f"KL {latest['policy/kl']:.3f}",
                f"{latest['perf/rollout_tokens_per_second']:,.0f} tok/s",
            ]
            bar.update(task, completed=step, shown="  ".join(filter(None, shown)))

        yield watch


def _conclude(trainer: Trainer, outcome: Outcome) -> None:
    """Base and trained score on unseen problems, where the checkpoint is, and what to type next."""
    assert outcome.base and outcome.trained
    run, console = trainer.session.folders.run, Console(markup=False, highlight=False, quiet=not is_first())
    title = visible(f"{trainer.session.splits.name}: {outcome.base.n} unseen problems (validation split)")
    table = Table(title=Text(title))
    for column in ("policy", "accuracy", "95 % interval", "answer log-prob (nats)"):
        table.add_column(column)
    table.add_row("base", *_cells(outcome.base))
    table.add_row(f"trained, step {trainer.progress.step}", *_cells(outcome.trained))
    console.print(table)
    if too_long := len(trainer.session.shuffle.too_long):
        console.print(f"skipped {too_long} training problems that are too long for the model's context")
    console.print(visible(f"checkpoint: {trainer.folder}"), soft_wrap=True)
    if trainer.progress.best_step not in (0, trainer.progress.step):
        best = trainer.folder.with_name("best")
        console.print(visible(f"best while training: step {trainer.progress.best_step}, {best}"), soft_wrap=True)
    console.print(visible(f"next: tensorboard --logdir {run}"), soft_wrap=True)


def _cells(score: Score) -> tuple[str, str, str]:
    if score.accuracy is None:
        return "-", "-", f"{score.answer_logprob:.3f}"
    return f"{score.accuracy:.3f}", f"{score.low:.3f} to {score.high:.3f}", f"{score.answer_logprob:.3f}"
