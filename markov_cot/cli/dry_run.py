"""`markov-cot train --dry-run`: what a run would take, as text or JSON."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from markov_cot.cli.launched import is_first
from markov_cot.cli.quiet import quiet_libraries
from markov_cot.cli.signals import ending_at_once
from markov_cot.distributed.process_group import leave, noticing_loss
from markov_cot.training.dry_run import Estimate, estimate
from markov_cot.training.options import resolve_config
from markov_cot.training.setup import Session, open_session
from markov_cot.utils.errors import UserError
from markov_cot.utils.text import visible

DONE = 0
UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")


def run_dry(
    recipe: str | None,
    settings: Mapping[str, Any],
    run: str | None,
    started: float,
    beside: Mapping[str, object],
    *,
    as_json: bool,
) -> int:
    """Estimates as asked, and prints the outcome. Returns the exit code.

    `started` is when the command began (`time.perf_counter`); `beside` are options that do not go with a dry run.
    """
    if given := [option for option, value in beside.items() if value]:
        raise UserError(f"--dry-run: is of a run that starts, and writes nothing; leave out {given[0]}")
    quiet_libraries()
    with ending_at_once(), noticing_loss():
        config, name = resolve_config(recipe, settings)
        session = open_session(config, run, name, resume=False, writes=False)
        found = estimate(session, started)
        leave()
    if is_first() and as_json:
        print(json.dumps(found.as_json()))
    elif is_first():
        console = Console(markup=False, highlight=False)
        for line in _lines(session, found):
            console.print(visible(line), soft_wrap=True)
    return DONE


def _lines(session: Session, found: Estimate) -> list[str]:
    config, device = session.config, session.policy.device
    runs_dir = Path(config.checkpoint.checkpoints_dir).absolute()
    there = next(path for path in (runs_dir, *runs_dir.parents) if path.exists())
    parts = (
        f"{_time(found.setup_seconds)} to start, {_time(found.steps_seconds)} of steps, "
        f"{_time(found.validation_seconds)} of held-out scores, {_time(found.saving_seconds)} of saving"
    )
    kept = f"{found.checkpoints} checkpoints of {_size(found.checkpoint_bytes)}, logs {_size(found.log_bytes)}"
    return [
        f"{config.model.name} on {session.splits.name}, {device}: all is well, and nothing was written",
        f"steps        {found.steps:,} of {found.step_seconds:.3g} s",
        f"run time     {_time(found.total_seconds)}: {parts}",
        f"peak memory  {_size(found.peak_memory_bytes)}",
        f"disk         {_size(found.disk_bytes)}: {kept}; {_size(shutil.disk_usage(there).free)} are free",
        f"parameters   {found.parameters:,}, of which {found.trainable_parameters:,} are trained",
    ]


def _time(seconds: float) -> str:
    """In the two largest units."""
    minutes, hours = seconds / 60, seconds / 3600
    if hours >= 24:
        return f"{hours // 24:.0f} d {hours % 24:.0f} h"
    if hours >= 1:
        return f"{hours // 1:.0f} h {minutes % 60:.0f} min"
    if minutes >= 1:
        return f"{minutes // 1:.0f} min {seconds % 60:.0f} s"
    return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"


def _size(count: float) -> str:
    """In the largest unit that leaves at least one of it."""
    power = min(int(math.log(max(1, count), 1024)), len(UNITS) - 1)
    value = count / 1024**power
    return f"{value:.0f} {UNITS[power]}" if value >= 100 or not power else f"{value:.1f} {UNITS[power]}"
