"""`markov-cot train --profile`: a trace of a few steps, and where their time went."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import torch
from rich.console import Console
from rich.table import Table
from torch.profiler import ProfilerActivity, profile, schedule

from markov_cot.cli.tables import print_table
from markov_cot.training.trainer import Observer, Trainer
from markov_cot.utils.errors import UserError
from markov_cot.utils.files import replace_by
from markov_cot.utils.profiling import PHASES, PREFIX

SKIPPED, WARM_UP, ACTIVE = 1, 1, 3
"""Steps: the first ones set things up and are not typical."""
FOLDER = "profile"


def check_steps(left: int) -> None:
    """Raises `UserError` when fewer steps are left than a profile needs."""
    if left < SKIPPED + WARM_UP + ACTIVE:
        raise UserError(f"--profile: needs {SKIPPED + WARM_UP + ACTIVE} steps, and {left} are left; raise --steps")


@contextlib.contextmanager
def profiled(console: Console, trainer: Trainer, watch: Observer) -> Iterator[Observer]:
    """`watch`, which within it also tells a profiler of each step. The trace goes into the run's folder."""
    check_steps(trainer.session.config.steps - trainer.state.progress.step)
    folder = trainer.session.folders.run / FOLDER
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # else the tracer writes lines of its own to the screen

    def ready(result: profile) -> None:
        folder.mkdir(exist_ok=True)
        # TensorBoard's plugin goes by the ending; Perfetto and chrome://tracing take it as it is.
        trace = folder / f"step_{trainer.state.progress.step}.pt.trace.json.gz"
        replace_by(trace, lambda path: result.export_chrome_trace(str(path)))
        step = _step_seconds(result)
        print_table(console, _table(phase_seconds(result), step), f"{ACTIVE} steps, {step:.3f} s each")
        console.print(f"trace: {trace} (open it in https://ui.perfetto.dev, or with TensorBoard)", soft_wrap=True)

    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if torch.cuda.is_available() else [])]
    steps = schedule(skip_first=SKIPPED, wait=0, warmup=WARM_UP, active=ACTIVE, repeat=1)
    with profile(activities=activities, schedule=steps, on_trace_ready=ready) as profiler:

        def both(*arguments: object) -> None:
            watch(*arguments)  # type: ignore[arg-type]
            profiler.step()

        yield both


def phase_seconds(result: profile) -> dict[str, float]:
    """Seconds a step of each phase: on a GPU of its kernels where there are any, else of the processor."""
    seconds = dict.fromkeys(PHASES, 0.0)
    for event in result.key_averages():
        name = event.key.removeprefix(PREFIX)
        if name != event.key:
            # On a GPU a mark appears twice, as what the processor did and as what the kernels took.
            seconds[name] = max(seconds[name], event.device_time_total or event.cpu_time_total)
    return {name: microseconds / 1e6 / ACTIVE for name, microseconds in seconds.items()}


def _step_seconds(result: profile) -> float:
    total = sum(event.cpu_time_total for event in result.key_averages() if event.key.startswith("ProfilerStep"))
    return float(total) / 1e6 / ACTIVE


def _table(seconds: dict[str, float], step: float) -> Table:
    table = Table()
    for column in ("phase", "what", "seconds", "share"):
        table.add_column(column, justify="right" if column in ("seconds", "share") else "left")
    rest = max(0.0, step - sum(seconds.values()))
    for name, value in (*sorted(seconds.items(), key=lambda item: -item[1]), ("rest", rest)):
        table.add_row(name, PHASES.get(name, "everything else"), f"{value:.4f}", f"{value / step:.1%}")
    return table
