"""What `markov-cot sweep run` does: plan, start or continue the cells, show progress, sum up."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from markov_cot.checkpoints.run_lock import RunLock
from markov_cot.cli.launched import is_one_of_several
from markov_cot.cli.signals import INTERRUPTED, stop_on_signal
from markov_cot.cli.sweep_outcome import document_of, outcome_line, print_outcome
from markov_cot.cli.sweep_progress import progress_of
from markov_cot.evaluation.runs import TRAINING, UNREADABLE
from markov_cot.training.sweep_local import run_locally
from markov_cot.training.sweep_plan import Sweep, plan_sweep, write_plan
from markov_cot.training.sweep_slurm import check_job, jobs_file, queued_cells, submit
from markov_cot.training.sweep_state import FAILED, STOPPED, TO_RUN, Status, status_of, statuses
from markov_cot.utils.errors import UserError
from markov_cot.utils.text import visible

LOCAL, SLURM = "local", "slurm"
LAUNCHERS = (LOCAL, SLURM)
ALL_DONE, SOME_FAILED, SOME_STOPPED = 0, 2, 3


@dataclass(frozen=True, slots=True)
class SweepOptions:
    """Options of the command."""

    launcher: str = LOCAL
    jobs: int = 1
    retry_failed: bool = False
    dry_run: bool = False
    as_json: bool = False


def run_sweep(file: Path, options: SweepOptions) -> int:
    """Run what is left of a sweep. Returns the exit code."""
    if is_one_of_several():
        raise UserError("sweep run: starts each cell itself, as a process of its own; call it without a launcher")
    if options.jobs > 1 and options.launcher != LOCAL:
        raise UserError("--jobs: is for the local launcher; for Slurm set slurm.slurm_array_parallelism in the file")
    console = Console(stderr=True, markup=False, highlight=False)
    sweep = plan_sweep(file)
    if options.launcher == SLURM:
        check_job(sweep)
    for note in sweep.notes:
        console.print(visible(note), soft_wrap=True)
    queued = queued_cells(sweep) if options.launcher == SLURM else {}
    stopped = False
    if not options.dry_run:
        with _alone(sweep):
            write_plan(sweep)
            before = statuses(sweep, queued)
            cells = cells_to_run(before, retry_failed=options.retry_failed)
            _introduce(console, sweep, before, cells, queued)
            if options.launcher == SLURM:
                queued |= submit(sweep, cells) if cells else {}
            else:
                stopped = _run_here(console, sweep, cells, options.jobs)
    found = statuses(sweep, queued)
    if options.as_json:
        print(json.dumps(document_of(sweep, found)))
    else:
        print_outcome(sweep, found)
    return ALL_DONE if options.dry_run else exit_code(found, stopped=stopped)


def cells_to_run(found: Sequence[Status], *, retry_failed: bool) -> list[str]:
    """Return the cells that have not ended; with those that failed if asked."""
    return [each.cell.name for each in found if each.state in TO_RUN or (retry_failed and each.state == FAILED)]


def exit_code(found: Sequence[Status], *, stopped: bool) -> int:
    """Return the command's: what was interrupted counts before what failed, and that before what an alarm stopped."""
    states = {each.state for each in found}
    if stopped or states & set(TO_RUN):
        return INTERRUPTED
    if states & {FAILED, UNREADABLE}:
        return SOME_FAILED
    return SOME_STOPPED if STOPPED in states else ALL_DONE


@contextlib.contextmanager
def _alone(sweep: Sweep) -> Iterator[None]:
    """Within it nobody else runs the sweep."""
    sweep.folder.mkdir(parents=True, exist_ok=True)
    lock = RunLock(sweep.folder)
    try:
        lock.acquire()
    except UserError:
        raise UserError(f"sweep {sweep.name}: another process runs it; wait for it or stop it") from None
    with lock:
        yield


def _introduce(
    console: Console, sweep: Sweep, before: Sequence[Status], cells: Sequence[str], queued: Mapping[str, str]
) -> None:
    """What there is to do."""
    states = [each.state for each in before if each.cell.name not in cells]
    counts = [f"{len(cells)} to run", *(f"{states.count(state)} {state}" for state in dict.fromkeys(states))]
    line = f"{sweep.name}: {len(before)} cells, {', '.join(counts)}; {sweep.folder}"
    console.print(visible(line), soft_wrap=True)
    if elsewhere := [each.cell.name for each in before if each.state == TRAINING]:
        console.print(visible(f"another process trains {', '.join(elsewhere)}"), soft_wrap=True)
    if queued:
        jobs = ", ".join(dict.fromkeys(job.partition("_")[0] for job in queued.values()))
        line = f"in Slurm: {len(queued)} cells (jobs {jobs}), left alone; remove {jobs_file(sweep)} to queue them again"
        console.print(visible(line), soft_wrap=True)


def _run_here(console: Console, sweep: Sweep, cells: Sequence[str], jobs: int) -> bool:
    """Run cells as processes of this machine. Returns whether a signal asked for an end."""
    if not cells:
        return False

    by_name = {cell.name: cell for cell in sweep.cells}

    def ended(cell: str) -> str:
        return outcome_line(status_of(sweep, by_name[cell]))

    with (
        stop_on_signal() as stop,
        progress_of(console, sweep, cells, ended) as watcher,
        stop.after_the_step(),
    ):
        run_locally(sweep.folder, cells, jobs, watcher, lambda: stop.asked)
    return stop.asked
