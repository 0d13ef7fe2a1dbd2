"""What `markov-cot train` does: resolve the config, show progress, sum up at the end."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from markov_cot.alarms.monitor import Event
from markov_cot.checkpoints.resume import ACCEPT
from markov_cot.cli.alarm_lines import advice_so_far, one_line
from markov_cot.cli.launched import is_first
from markov_cot.cli.outcome import after_alarms, after_interruption, after_the_end
from markov_cot.cli.profiling import check_steps, profiled
from markov_cot.cli.quiet import quiet_libraries
from markov_cot.cli.reporting import report_on
from markov_cot.cli.scores import score_cells, score_headings
from markov_cot.cli.signals import INTERRUPTED, LAUNCHERS_PATIENCE, ending_at_once, stop_on_signal
from markov_cot.cli.tables import fitting, print_table
from markov_cot.config.schema import Checkpoint, Config
from markov_cot.data.catalog import nearest
from markov_cot.distributed.process_group import PATIENCE, leave, noticing_loss
from markov_cot.training.options import resolve_config
from markov_cot.training.setup import Session, open_session
from markov_cot.training.trainer import Trainer, TrainResult
from markov_cot.training.unstarted import undone_if_it_never_starts
from markov_cot.training.worked import Worked
from markov_cot.utils.errors import UserError
from markov_cot.utils.layout import ALARMS, CONFIG, check_run_name, newest_run, run_names
from markov_cot.utils.text import visible

DONE, STOPPED = 0, 3
SAVES_FOR_ROLLBACK = 10
"""Checkpoints in a run below which a rollback is said to lose much of it."""
WIDEST_BAR, NARROWEST_BAR, TIME_LEFT = 20, 4, 9
"""Columns of the progress line."""
HELD_OUT, LOSS = "held-out", "loss"
SHOWN = (
    ("reward/answer_logprob", "reward {:.3f}"),
    (LOSS, "loss {:.3f}"),
    (HELD_OUT, "held-out {:.3f}"),
    ("policy/kl", "KL {:.3f}"),
    ("perf/rollout_tokens_per_second", "{:,.0f} tok/s"),
    ("perf/sft_tokens_per_second", "{:,.0f} tok/s"),
)
"""What the progress line has of a step, as far as the step has it."""
STYLES = {"cleared": "green", "warn": "yellow", "critical": "bold red"}


def run_train(
    recipe: str | None,
    settings: Mapping[str, Any],
    run: str | None,
    *,
    resume: bool,
    accept_changes: bool = False,
    checkpoint: str | None = None,
    profile: bool = False,
    report: bool = True,
    as_json: bool = False,
) -> int:
    """Trains as asked. Returns the exit code."""
    if as_json:
        raise UserError("--json: has a meaning only with --dry-run; a run's numbers are in its log.jsonl")
    console = Console(stderr=True, markup=False, highlight=False, quiet=not is_first())
    quiet_libraries()
    _check_options(resume=resume, accept_changes=accept_changes, checkpoint=checkpoint)
    terminated = functools.partial(PATIENCE.limit, LAUNCHERS_PATIENCE)
    with ending_at_once(), stop_on_signal(terminated) as stop, noticing_loss():
        saved = None
        if resume:
            run, saved = _saved_config(console, run, settings)
            if recipe is not None:
                console.print(visible(f"{recipe} is not read: a resumed run has settings of its own"), soft_wrap=True)
        config, name = resolve_config(recipe, settings, saved)
        if profile:
            check_steps(config.steps)
        session = open_session(config, run, name, resume=resume, accept_changes=accept_changes, checkpoint=checkpoint)
        with contextlib.ExitStack() as stack:
            stack.enter_context(undone_if_it_never_starts(session, resume=resume))
            _introduce(console, session)
            trainer = Trainer(session)
            if resume:
                trainer.state.resume()
                console.print(f"resuming at step {trainer.state.progress.step}")
                if session.goes_back:
                    console.print("the log loses what is of later steps; alarms.jsonl keeps it", soft_wrap=True)
            watch = stack.enter_context(_progress(console, trainer))
            if profile:
                watch = stack.enter_context(profiled(console, trainer, watch))
            stack.enter_context(stop.after_the_step())
            outcome = trainer.run(watch, lambda: stop.asked)
        code = _report(console, trainer, outcome)
        if report and code != INTERRUPTED and is_first():
            _say(console if code else Console(markup=False, highlight=False), report_on(session.folders.run))
        leave()
    return code


def _report(console: Console, trainer: Trainer, outcome: TrainResult) -> int:
    """Says how the run ended. Returns the exit code."""
    if outcome.alarms:
        _say(console, *after_alarms(trainer, outcome))
        return STOPPED
    if outcome.interrupted:
        _say(console, *after_interruption(trainer))
        return INTERRUPTED
    _conclude(trainer, outcome)
    return DONE


def _check_options(*, resume: bool, accept_changes: bool, checkpoint: str | None) -> None:
    for given, option in ((accept_changes, ACCEPT), (checkpoint is not None, "--checkpoint")):
        if given and not resume:
            raise UserError(f"{option}: has a meaning only with --resume")


def _saved_config(console: Console, run: str | None, settings: Mapping[str, Any]) -> tuple[str, Path]:
    """Name and config of the run to resume: the newest, unless it is named."""
    if run is not None:
        check_run_name(run)
    runs_dir = Path(settings.get("checkpoint.runs_dir", Checkpoint().runs_dir))
    if run is None:
        run = newest_run(runs_dir, CONFIG)
        if run is None:
            raise UserError(f"--resume: there are no runs in {runs_dir}/; leave it out to start one")
        console.print(visible(f"resuming {run}, the newest run"), soft_wrap=True)
    path = runs_dir / run / CONFIG
    if not path.is_file():
        there = f"there is no {path} to resume from"
        others = run_names(runs_dir, CONFIG)
        hint = nearest(run, others).rstrip("?") if others else ""
        raise UserError(f"run {run}: {there}{hint}; leave out --resume to start the run")
    return run, path


def _introduce(console: Console, session: Session) -> None:
    config, splits = session.config, session.splits
    where = (
        f": {config.model.name} on {splits.name} "
        f"({len(splits.train):,} training problems from {splits.source}), {session.policy.device}"
    )
    console.print(Text.assemble((session.folders.run.name, "bold"), visible(where)), soft_wrap=True)
    if splits.note:
        console.print(visible(splits.note), soft_wrap=True)
    if session.init:
        lora = config.lora
        kl = "it" if lora.reference == "init" else "the base"
        critic = "the base" if lora.critic == "base" else "the base with it"
        about = f"from the adapter {session.init.origin} (rank {lora.rank}, alpha {lora.alpha:g})"
        roles = f"critic: {critic}" if session.worked else f"KL to {kl}, critic: {critic}"
        console.print(visible(f"{about}; {roles}"), soft_wrap=True)
    if splits.skipped:
        console.print(f"{splits.skipped} broken rows were skipped")
    if session.worked:
        _introduce_worked(console, session.worked, config)
    every = config.checkpoint.every
    if config.alarms.action == "rollback" and every * SAVES_FOR_ROLLBACK > config.steps:
        console.print(
            f"alarms.action=rollback: checkpoints are {every} steps apart, so a rollback loses up to as many; "
            "lower checkpoint.every to lose fewer",
            soft_wrap=True,
        )
    console.print(visible(f"TensorBoard: tensorboard --logdir {config.checkpoint.runs_dir}"), soft_wrap=True)


def _introduce_worked(console: Console, worked: Worked, config: Config) -> None:
    passes = config.steps * config.sft.batch / len(worked.examples)
    console.print(
        f"{len(worked.examples):,} written CoTs to learn in {config.steps:,} steps of {config.sft.batch} ({passes:.3g} "
        f"passes), {len(worked.held_out)} held out",
        soft_wrap=True,
    )
    for note in worked.notes:
        console.print(visible(note), soft_wrap=True)


@contextlib.contextmanager
def _progress(console: Console, trainer: Trainer) -> Iterator[Any]:
    """A progress bar; yields the function that advances it."""
    total = trainer.session.config.steps
    line = BarColumn(bar_width=WIDEST_BAR)
    # What the step's numbers and the bar share, after the count, the time left and a space between any two of them.
    room = console.width - len(f"step {total}/{total}") - TIME_LEFT - 3
    columns = (
        TextColumn("step"),
        MofNCompleteColumn(),
        line,
        TextColumn("{task.fields[shown]}"),
        TimeRemainingColumn(),
    )
    accuracy_key = f"eval/{trainer.session.splits.name}/"
    latest: dict[str, float] = {}
    rollbacks = trainer.state.progress.rollbacks
    advice = advice_so_far(trainer.session.folders.run / ALARMS)
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("", total=total, completed=trainer.state.progress.step, shown="")

        def watch(step: int, metrics: dict[str, float], events: Sequence[Event]) -> None:
            nonlocal rollbacks
            if trainer.state.progress.rollbacks > rollbacks:
                rollbacks = trainer.state.progress.rollbacks
                scale = f"{trainer.state.progress.lr_scale:g} times the learning rate"
                console.print(f"rolled back to step {step - 1}, and on with {scale}")
            for event in events:
                console.print(Text(visible(one_line(event, advice))), style=STYLES[event.level])
            latest.update(metrics)
            held_out = latest.get(accuracy_key + "accuracy", latest.get(accuracy_key + "answer_logprob"))
            values = latest if held_out is None else latest | {HELD_OUT: held_out}
            if "sft/tokens" in latest:
                values = values | {LOSS: latest["loss/total"]}
            shown = [form.format(values[key]) for key, form in SHOWN if key in values]
            numbers = fitting(shown, room - NARROWEST_BAR)
            line.bar_width = min(WIDEST_BAR, room - len(numbers))
            bar.update(task, completed=step, shown=numbers)

        yield watch


def _conclude(trainer: Trainer, outcome: TrainResult) -> None:
    """Base and trained score on unseen problems, where the checkpoint is, and what to type next."""
    assert outcome.base and outcome.trained
    console = Console(markup=False, highlight=False, quiet=not is_first())
    title = visible(f"{trainer.session.splits.name}: {outcome.base.n} unseen problems (validation split)")
    table = Table()
    for column in ("policy", *score_headings(outcome.base)):
        table.add_column(column)
    lora = trainer.session.config.lora
    table.add_row("base" if lora.init is None or lora.critic == "base" else "base + init", *score_cells(outcome.base))
    table.add_row(f"trained, step {trainer.state.progress.step}", *score_cells(outcome.trained))
    print_table(console, table, title)
    if too_long := len(trainer.session.shuffle.too_long):
        console.print(f"skipped {too_long} training problems that are too long for the model's context")
    _say(console, *after_the_end(trainer, outcome.trained))


def _say(console: Console, *lines: str) -> None:
    for line in lines:
        console.print(visible(line), soft_wrap=True)
