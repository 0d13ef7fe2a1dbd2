"""The Slurm launcher: a sweep's cells as one job array, through submitit (extra `slurm`).

Slurm warns a job before its time is up or before it is preempted. The cell's run then finishes its step and saves, and
submitit queues the same job again, which resumes it. What submitit sends to a job is a function of this module by name
and two strings.
"""

from __future__ import annotations

import json
import logging
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from markov_cot.evaluation.runs import DONE, TRAINING, read_run
from markov_cot.training.sweep_cell import INTERRUPTED, CellProcess, read_attempts
from markov_cot.training.sweep_local import POLL_SECONDS, end_at_once
from markov_cot.training.sweep_plan import Sweep
from markov_cot.utils.errors import UserError
from markov_cot.utils.files import replace_file
from markov_cot.utils.layout import CONFIG
from markov_cot.utils.text import first_line

FOLDER, JOBS = "slurm", "jobs.json"
SLURM = "slurm"
TIME = "timeout_min"
ONE_PROCESS = ("nodes", "tasks_per_node")
"""Parameters of a job that would start a cell several times."""
MOST_TIMEOUTS = 1000
"""Times that a job may run out of its time. Each time its run is further than before."""
SAME_REQUEST_SECONDS = 1.0
"""From Slurm's signal, which may reach the run itself as well, to ours, which a run takes for the same request."""
PREEMPTION_SECONDS = 120.0
"""How long a job whose run was asked to stop by others waits for Slurm to preempt it."""

_processes: list[CellProcess] = []
"""The cell's, within a job."""


def check_job(sweep: Sweep) -> None:
    """Raise `UserError` where submitit is not installed, or the sweep's file does not say what its jobs need."""
    _submitit()
    if TIME not in sweep.slurm:
        raise UserError(
            f"{sweep.file}: slurm.{TIME}, the minutes that a job may take, is missing; add slurm: {{{TIME}: 240}}"
        )
    if several := [name for name in ONE_PROCESS if name in sweep.slurm]:
        raise UserError(f"{sweep.file}: slurm.{several[0]}: a cell is one process; leave it out")


def submit(sweep: Sweep, cells: Sequence[str], cluster: str = SLURM) -> dict[str, str]:
    """Queue cells as a job array, and return each one's job.

    `cluster` is submitit's name of the executor. Raises `UserError` for what submitit or Slurm refuses.
    """
    submitit = _quiet_submitit()
    folder = sweep.folder.absolute()
    try:
        executor = submitit.AutoExecutor(folder / FOLDER, cluster=cluster, slurm_max_num_timeout=MOST_TIMEOUTS)
        executor.update_parameters(**{"name": sweep.name, **sweep.slurm})
        jobs = executor.map_array(train_cell, [str(folder)] * len(cells), list(cells))
    except (RuntimeError, ValueError, TypeError, NameError, AssertionError, OSError) as error:
        raise UserError(f"{sweep.file}: submitit: {first_line(error)}; see slurm: in the file") from None
    found = dict(zip(cells, (job.job_id for job in jobs), strict=True))
    replace_file(jobs_file(sweep), (json.dumps(_jobs(sweep) | found, indent=1) + "\n").encode())
    return found


def queued_cells(sweep: Sweep) -> dict[str, str]:
    """Return the cells whose jobs are in Slurm's queue or run, with their jobs."""
    submitit = _quiet_submitit()
    folder = sweep.folder.absolute()
    found = {name: submitit.SlurmJob(folder / FOLDER, job) for name, job in _jobs(sweep).items()}
    return {name: job.job_id for name, job in found.items() if not job.done()}


def jobs_file(sweep: Sweep) -> Path:
    """Which job each cell was last queued as."""
    return sweep.folder / FOLDER / JOBS


def _jobs(sweep: Sweep) -> dict[str, str]:
    try:
        found = json.loads(jobs_file(sweep).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return {str(name): str(job) for name, job in found.items()} if isinstance(found, dict) else {}


def train_cell(folder: str, cell: str) -> int:
    """Train a cell from within its job, and return the exit code of its run."""
    run = Path(folder, cell)
    if (run / CONFIG).is_file() and read_run(run).state in (DONE, TRAINING):
        return 0
    process = CellProcess(Path(folder), cell, own_group=False)
    _processes.append(process)
    try:
        while not process.ended():
            time.sleep(POLL_SECONDS)
        code = read_attempts(Path(folder), cell)[-1].exit_code
        if code == INTERRUPTED:
            time.sleep(PREEMPTION_SECONDS)
        return code
    except BaseException:
        end_at_once([process])
        raise
    finally:
        _processes.remove(process)


def _save_and_queue_again(folder: str, cell: str) -> Any:
    """Let the run save, and return the same job for submitit to queue."""
    for process in _processes:
        time.sleep(SAME_REQUEST_SECONDS)
        process.ask_to_stop(signal.SIGHUP)
        process.wait_for_end()
    return _submitit().helpers.DelayedSubmission(train_cell, folder, cell)


# Where submitit looks for it.
train_cell.checkpoint = _save_and_queue_again  # type: ignore[attr-defined]


def _submitit() -> Any:
    try:
        import submitit
    except ModuleNotFoundError:
        raise UserError("--launcher slurm: needs submitit; install it with pip install 'markov-cot[slurm]'") from None
    return submitit


def _quiet_submitit() -> Any:
    """Without its log on stdout, where our results go."""
    submitit = _submitit()
    logging.getLogger("submitit").handlers.clear()
    return submitit
