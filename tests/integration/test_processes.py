"""Several processes compute what one would; docs/scaling.md."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from markov_cot.distributed.process_group import ALONE, Processes, join
from markov_cot.utils.errors import UserError
from tests import small_runs
from tests.launching import ROOT, environment, free_port, process_of, run_two, wait_until
from tests.process_cases import CASES, config_of, in_float64

SAME_AS_ONE = [
    "group",
    "ppo",
    "ema",
    "expert",
    "dynamic",
    "actor",
    "rollback",
    "own alarm",
    "sft",
    "shard",
    "shard-ppo",
    "shard-actor",
    "shard-rest",
]
ENDED_BY_AN_ALARM = ("rollback", "own alarm")
OWN_TO_A_MACHINE = ("perf/",)


@pytest.fixture(scope="module", autouse=True)
def _warm() -> Iterator[None]:
    with in_float64():
        yield


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    """All cases, run by two processes, and what each of these says."""
    folder = tmp_path_factory.mktemp("two")
    return folder, run_two("tests.process_cases", folder, CASES, timeout=120)


def adapter(folder: Path, case: str) -> dict[str, torch.Tensor]:
    path = folder / case.replace(" ", "-") / "checkpoints" / "r" / "latest" / "adapter_model.safetensors"
    return load_file(path)


def rows(folder: Path, case: str, name: str = "log.jsonl") -> list[dict[str, Any]]:
    lines = (folder / case.replace(" ", "-") / "runs" / "r" / name).read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if not k.startswith(OWN_TO_A_MACHINE)} for line in lines]


def assert_same(found: Path, expected: Path, case: str, *, within: float = 1e-8, metrics: float = 1e-6) -> None:
    """Parameters within `within`, and every metric but those of speed within `metrics`."""
    ours, theirs = adapter(found, case), adapter(expected, case)
    assert ours.keys() == theirs.keys()
    assert all(t.dtype == torch.float64 for t in theirs.values())
    for name, tensor in theirs.items():
        torch.testing.assert_close(ours[name], tensor, rtol=0, atol=within)
    assert any(tensor.any() for name, tensor in theirs.items() if "lora_B" in name)
    logged, expected_log = rows(found, case), rows(expected, case)
    assert len(logged) == len(expected_log)
    for row, one in zip(logged, expected_log, strict=True):
        assert row == pytest.approx(one, rel=metrics, abs=metrics)


@pytest.mark.parametrize("case", SAME_AS_ONE)
def test_two_processes_train_as_one(two: tuple[Path, Any], tmp_path: Path, case: str) -> None:
    config = config_of(tmp_path, case, model={})
    config = config.model_copy(update={"model": config.model.model_copy(update={"shard": False})})
    small_runs.run(config)
    assert_same(two[0], tmp_path, case)
    samples, expected = rows(two[0], case, "samples.jsonl"), rows(tmp_path, case, "samples.jsonl")
    assert samples == expected
    summaries = [folder / case.replace(" ", "-") / "runs" / "r" / "summary.json" for folder in (two[0], tmp_path)]
    if case in ENDED_BY_AN_ALARM:  # before any summary
        assert not any(path.exists() for path in summaries)
    else:
        found, one = (json.loads(path.read_text()) for path in summaries)
        assert found["trained"] == pytest.approx(one["trained"]) and found["trained"]["n"] == 3


def test_only_a_sharded_run_has_its_base_in_parts(two: tuple[Path, Any]) -> None:
    for said in two[1]:
        # 4 layers of 7 matrices and 2 norms.
        assert said["shard"]["sharded"] == said["shard-ppo"]["sharded"] == 4 * 9
        assert said["group"]["sharded"] == 0


def test_a_run_of_two_processes_stops_as_one_and_is_resumed_by_one(two: tuple[Path, Any], tmp_path: Path) -> None:
    found, said = two
    for each in said:  # what one is asked to stop for, all stop for
        assert each["resumed"]["interrupted"] and each["resumed"]["step"] == 2
    assert (found / "resumed" / "checkpoints" / "r" / "adapter_2").is_dir()
    small_runs.run(config_of(found, "resumed"), resume=True)
    small_runs.run(config_of(tmp_path, "resumed"))
    assert_same(found, tmp_path, "resumed")


def test_what_one_runs_out_of_memory_for_all_do_again(two: tuple[Path, Any], tmp_path: Path) -> None:
    first, second = (said["out of memory"] for said in two[1])
    # Two steps and one that was done again; both have halved, from what the larger share came to.
    assert first == second and first["times"] == 3
    assert first["tokens"] < config_of(tmp_path, "out of memory").optim.micro_batch_tokens


def test_what_one_refuses_all_refuse_in_its_words(two: tuple[Path, Any]) -> None:
    first, second = (said["refused"] for said in two[1])
    assert first == second == "model nothing: cannot be loaded"


def test_a_rollback_is_everyones(two: tuple[Path, Any]) -> None:
    first, second = (said["rollback"] for said in two[1])
    assert first == second and first["lr_scale"] < 1


def test_an_alarm_of_ones_own_ends_the_run_in_all_processes(two: tuple[Path, Any]) -> None:
    found, said = two
    assert [each["own alarm"]["step"] for each in said] == [3, 3]
    raised = [row for row in rows(found, "own alarm", "alarms.jsonl") if row["alarm"] == "patience"]
    assert [(row["step"], row["level"]) for row in raised] == [(2, "warn"), (3, "critical")], "written once"


def test_blocks_are_contiguous_and_complete() -> None:
    for n in (0, 1, 7, 8):
        blocks = [list(Processes(rank, 3).share(n)) for rank in range(3)]
        assert [i for block in blocks for i in block] == list(range(n))
        assert max(map(len, blocks)) - min(map(len, blocks)) <= 1
    assert Processes(1, 2).part("abc") == "bc"


def test_alone_nothing_changes() -> None:
    parameter, value = torch.nn.Parameter(torch.ones(2)), torch.tensor([1.0])
    parameter.grad = torch.ones(2)
    before = parameter.grad
    ALONE.sum_gradients([parameter])
    assert parameter.grad is before and ALONE.gather(value) is value
    assert ALONE.sum([1.0]) == [1.0] and ALONE.collect("a") == ["a"] and not ALONE.any(False)


@pytest.mark.parametrize(
    ("count", "values", "message"),
    [
        (2, {"rollout": {"problems": 3}}, "3 questions a step cannot be shared evenly by 2 processes"),
        (2, {"rollout": {"problems": 2, "decoder": "vllm"}}, "rollout.decoder vllm: is for a single process"),
        (1, {"model": {"shard": True}}, "needs several processes"),
    ],
)
def test_what_cannot_be_shared_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int, values: dict[str, Any], message: str
) -> None:
    monkeypatch.setattr("markov_cot.training.setup.join", lambda **_: Processes(0, count))
    with pytest.raises(UserError, match=message):
        small_runs.start(small_runs.config_of(tmp_path, **values))


def test_processes_without_a_launcher_are_told_to_use_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    with pytest.raises(UserError, match=r"2 processes were started and cannot meet .*; start them with torchrun"):
        join(cpu=True)


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
    small_runs.run(alone.model_copy(update={"model": whole}))
    # The launched processes' norms compute in float32, and AdamW makes the rounding of small gradients large: a tenth
    # of a step's size.
    assert_same(tmp_path / "two", tmp_path / "one", "shard", within=1e-3, metrics=1e-4)


def test_a_killed_process_ends_the_job_with_one_line_and_it_resumes(tmp_path: Path) -> None:
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
    again = [sys.executable, "-m", "markov_cot", "train", "--run", "r", "--resume", "--steps", str(last + 1), *options]
    done = subprocess.run(again, cwd=ROOT, capture_output=True, text=True, env=environment(), timeout=60)
    assert done.returncode == 0, done.stderr
    steps = [json.loads(line)["step"] for line in (tmp_path / "runs" / "r" / "log.jsonl").read_text().splitlines()]
    assert steps == list(range(1, last + 2))
