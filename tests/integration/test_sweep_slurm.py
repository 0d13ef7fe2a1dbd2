"""`markov-cot sweep run --launcher slurm`: what Slurm is given, and jobs that are preempted. No Slurm is needed."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from pathlib import Path

import pytest

from markov_cot.training import sweep_slurm
from markov_cot.training.sweep_state import statuses
from tests.command_fixtures import Cli
from tests.launching import process_children, wait_until
from tests.sweep_fixtures import GRID, NAMES, Behave, attempts, planned, refused, write

pytestmark = pytest.mark.usefixtures("empty_folder")
STEPS = 30
REAL = f"""
recipe: quickstart
settings:
  steps: {STEPS}
  data.terms: [2, 2]
  rollout: {{problems: 1, samples: 2, length: 8}}
  validation: {{every: 0, final_problems: 2, reader_check: 0}}
  tracking.trackers: []
  alarms.action: continue
seeds: [0]
slurm: {{timeout_min: 5}}
"""


def fake_slurm(folder: Path, state: str) -> None:
    """Commands that stand for Slurm's: sbatch keeps what it is given, sacct says that the jobs are in `state`."""
    folder.mkdir(exist_ok=True)
    for name, lines in {
        "srun": "exit 0",
        "sbatch": f'cp "$1" {folder}/array.sh; echo Submitted batch job 77',
        "sacct": f"printf 'JobID|State|NodeList\\n77_[0-3]|{state}|\\n'",
    }.items():
        (folder / name).write_text(f"#!/bin/sh\n{lines}\n")
        (folder / name).chmod(0o755)


def test_slurm_gets_one_array_of_the_cells(
    cli: Cli, behave: Behave, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("submitit")
    write(GRID + "slurm: {timeout_min: 30, slurm_partition: main, slurm_array_parallelism: 2}\n")
    assert "srun" in cli("sweep", "run", "g.yaml", "--launcher", "slurm")[2].splitlines()[-1]
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    fake_slurm(tmp_path / "bin", "PENDING")
    code, out, _ = cli("sweep", "run", "g.yaml", "--launcher", "slurm")
    assert code == 0 and out.count("queued") == 4 and "--launcher slurm --dry-run" in out
    array = (tmp_path / "bin" / "array.sh").read_text()
    assert "--array=0-3%2" in array and "--time=30" in array and "--partition=main" in array
    assert "--signal=USR2@" in array and "--job-name=g" in array
    assert json.loads(Path("runs/g/slurm/jobs.json").read_text()) == {name: f"77_{i}" for i, name in enumerate(NAMES)}
    code, out, err = cli("sweep", "run", "g.yaml", "--launcher", "slurm")
    assert code == 0 and "0 to run, 4 queued" in err and "jobs 77" in err and out.count("queued") == 4
    fake_slurm(tmp_path / "bin", "NODE_FAIL")
    write(GRID + "slurm: {timeout_min: 30, slurm_nonsense: 1}\n")
    code, out, err = cli("sweep", "run", "g.yaml", "--launcher", "slurm")
    assert code == 2 and "4 to run" in err and "nonsense" in err.splitlines()[-1]


def test_slurm_needs_submitit(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    write()
    monkeypatch.setitem(sys.modules, "submitit", None)
    assert "pip install 'markov-cot[slurm]'" in refused(cli("sweep", "run", "g.yaml", "--launcher", "slurm"))


def test_a_job_runs_its_cell_and_is_itself_when_queued_again(
    behave: Behave, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("submitit")
    monkeypatch.setattr(sweep_slurm, "PREEMPTION_SECONDS", 0)
    monkeypatch.setattr(sweep_slurm, "SAME_REQUEST_SECONDS", 0)
    behave({2: "fail", 3: "slow"})
    folder = str(planned().folder)
    assert [sweep_slurm.train_cell(folder, name) for name in NAMES[:2]] == [0, 2]
    assert sweep_slurm.train_cell(folder, NAMES[0]) == 0 and attempts(NAMES[0]) == [0], "done is done"
    again = []

    def preempt() -> None:
        wait_until(Path(folder, NAMES[2], "log.jsonl").exists)
        again.append(sweep_slurm.train_cell.checkpoint(folder, NAMES[2]))  # type: ignore[attr-defined]

    thread = threading.Thread(target=preempt)
    thread.start()
    assert sweep_slurm.train_cell(folder, NAMES[2]) == 130
    thread.join()
    assert (again[0].function, again[0].args) == (sweep_slurm.train_cell, (folder, NAMES[2]))
    assert again[0].result() == 0 and attempts(NAMES[2]) == [130, 0]


@pytest.mark.slow
def test_a_preempted_job_saves_and_resumes() -> None:
    """A real run, by submitit's local executor, which sends jobs and queues them again as its Slurm executor does."""
    pytest.importorskip("submitit")
    sweep = planned(REAL)
    name = sweep.cells[0].name
    job = sweep_slurm.submit(sweep, [name], cluster="local")[name]
    log, result = sweep.folder / name / "log.jsonl", sweep.folder / "slurm" / f"{job}_0_result.pkl"
    wait_until(lambda: log.exists() and b'"step": 2,' in log.read_bytes(), seconds=120)
    [task] = process_children(int(job))
    [train] = process_children(task)
    for process in (train, task):  # Slurm sends it to all processes of a job
        os.kill(process, signal.SIGUSR2)
    wait_until(result.exists, seconds=120)
    found = statuses(sweep)[0]
    assert (found.state, found.measure, found.step) == ("done", "accuracy", STEPS) and found.trained is not None
    assert attempts(name) == [130, 0] and "resuming at step" in found.output.read_text()
    assert [json.loads(line)["step"] for line in log.read_text().splitlines()] == list(range(1, STEPS + 1))
