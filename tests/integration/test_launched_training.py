"""Runs of several processes that launchers start, from the command line; docs/scaling.md."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import yaml

from tests import small_runs
from tests.command_fixtures import Cli
from tests.launching import ROOT, environment, free_port, process_of, wait_until
from tests.process_cases import assert_same, config_of, in_float64


def test_accelerate_launch_starts_a_run_of_several_processes(tmp_path: Path) -> None:
    """A sharded run, which one process refuses, and in which each forward needs both."""
    config, alone = (config_of(tmp_path / each, "shard", validation={"every": 0}) for each in ("two", "one"))
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(config.model_dump(mode="json")))
    launcher = ["accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--main_process_port", free_port()]
    command = [sys.executable, "-m", *launcher, "-m", "markov_cot", "train", str(recipe), "--run", "r"]
    own = environment(HF_HOME=str(tmp_path))  # where `accelerate config` keeps a user's answers
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=own, timeout=60)
    assert done.returncode == 0, done.stderr
    whole = alone.model.model_copy(update={"shard": False})
    with in_float64():
        small_runs.run(alone.model_copy(update={"model": whole}))
    # The launched processes' norms compute in float32, and AdamW makes the rounding of small gradients large: a tenth
    # of a step's size.
    assert_same(tmp_path / "two", tmp_path / "one", "shard", within=1e-3, metrics=1e-4)


def test_a_killed_process_ends_the_job_with_one_line_and_it_resumes(tmp_path: Path, cli: Cli) -> None:
    options = [f"--set={key}={value}" for key, value in {
        "checkpoint.runs_dir": tmp_path / "runs", "checkpoint.checkpoints_dir": tmp_path / "checkpoints",
        "checkpoint.every": 1, "model.device": "cpu", "rollout.problems": 2, "rollout.samples": 4, "rollout.length": 8,
        "validation.every": 0, "validation.final_problems": 2,
    }.items()]  # fmt: skip
    launcher = ["torch.distributed.run", "--nproc-per-node", "2", "--master-port", free_port(), "-m", "--"]
    command = [sys.executable, "-m", *launcher, "markov_cot", "train", "--run", "r", "--steps", "1000", *options]
    job = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, env=environment())
    try:
        latest = tmp_path / "checkpoints" / "r" / "latest"
        wait_until(lambda: latest.exists() and int(latest.readlink().name.rpartition("_")[2]) >= 2)
        second = process_of(job.pid, rank=1)
        os.kill(second, signal.SIGKILL)
        killed = time.monotonic()
        _, err = job.communicate(timeout=60)
    finally:
        job.kill()
    assert time.monotonic() - killed < 60 and job.returncode == 1
    lines = [line for line in err.splitlines() if line.startswith("markov-cot: ")]
    assert lines == [
        "markov-cot: train: another process of this run has ended or does not answer; see what it says, then continue "
        "from the newest checkpoint with --resume"
    ]
    assert "markov_cot/" not in err, "no traceback of ours"
    last = int(latest.readlink().name.rpartition("_")[2])
    code, _, err = cli("train", "--run", "r", "--resume", "--steps", str(last + 1), *options)
    assert code == 0, err
    steps = [json.loads(line)["step"] for line in (tmp_path / "runs" / "r" / "log.jsonl").read_text().splitlines()]
    assert steps == list(range(1, last + 2))
