"""What launchers, batch systems and shells leave in the environment."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from accelerate.state import AcceleratorState, PartialState

from markov_cot.cli.launched import is_first, speaks_for_machine
from markov_cot.cli.main import main
from markov_cot.distributed.launch import Launch, read_launch
from markov_cot.utils.errors import UserError

MEETING = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}
SMALL = ["steps=1", "rollout.length=8", "rollout.samples=2", "data.terms=[2,2]", "validation.problems=2",
         "validation.final_problems=2"]  # fmt: skip
LAUNCHERS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@pytest.fixture(autouse=True)
def _without_a_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in LAUNCHERS:
        monkeypatch.delenv(name, raising=False)
    # Accelerate reads the environment once in a process.
    PartialState._reset_state()
    AcceleratorState._reset_state()


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"RANK": "0"},
        {"RANK": "0", "LOCAL_RANK": "0"},
        {"LOCAL_RANK": "0", "MASTER_ADDR": "node7"},
        {"WORLD_SIZE": "1"},
        {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"},
        {"RANK": " 0 ", "WORLD_SIZE": ""},
        {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1", **MEETING},
        {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4", "SLURM_PROCID": "0"},
        {"SLURM_NTASKS": "1", "SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "1"},
        {"OMPI_COMM_WORLD_SIZE": "1", "PMI_SIZE": "1", "PMI_RANK": "0"},
    ],
)
def test_what_means_a_single_process_is_one(environment: dict[str, str]) -> None:
    assert read_launch(environment) == Launch(rank=0, count=1)


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, Launch(1, 2)),
        ({"LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}, Launch(1, 2, 1, 2)),
        ({"SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "1", "LOCAL_RANK": "0"}, Launch(1, 2, 0, None)),
    ],
)
def test_a_launcher_that_says_all_is_believed(more: dict[str, str], expected: Launch) -> None:
    assert read_launch({"RANK": "1", "WORLD_SIZE": "2", **MEETING, **more}) == expected


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"RANK": "1"}, r"RANK=1 says that there are other processes, and WORLD_SIZE is not set; unset RANK, or start"),
        ({"LOCAL_RANK": "3"}, r"LOCAL_RANK=3 says .*; unset LOCAL_RANK"),
        ({"RANK": "x"}, r"RANK=x: must be a whole number from 0"),
        ({"RANK": "-1", "WORLD_SIZE": "2", **MEETING}, r"RANK=-1: must be"),
        ({"RANK": "0", "WORLD_SIZE": "two"}, r"WORLD_SIZE=two: must be a whole number from 1"),
        ({"RANK": "0", "WORLD_SIZE": "0"}, r"WORLD_SIZE=0: must be a whole number from 1"),
        ({"RANK": "0", "WORLD_SIZE": "1.5"}, r"WORLD_SIZE=1\.5: must be"),
        ({"RANK": "2", "WORLD_SIZE": "2", **MEETING}, r"RANK=2 and WORLD_SIZE=2 contradict each other"),
        ({"RANK": "1", "WORLD_SIZE": "1"}, r"RANK=1 and WORLD_SIZE=1 contradict each other"),
        (
            {"RANK": "0", "WORLD_SIZE": "4", "LOCAL_RANK": "2", "LOCAL_WORLD_SIZE": "2", **MEETING},
            r"LOCAL_RANK=2 and LOCAL_WORLD_SIZE=2 contradict",
        ),
        ({"WORLD_SIZE": "2"}, r"2 processes were started and cannot meet \(RANK, MASTER_ADDR, MASTER_PORT not set\)"),
        (
            {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "a"},
            r"2 processes .* meet \(MASTER_PORT not set\); start",
        ),
        ({"RANK": "0", "WORLD_SIZE": "2", **MEETING, "MASTER_PORT": "x"}, r"MASTER_PORT=x: must be"),
        ({"RANK": "0", "WORLD_SIZE": "2", **MEETING, "MASTER_PORT": "0"}, r"MASTER_PORT=0: is no port"),
        ({"RANK": "0", "WORLD_SIZE": "2", **MEETING, "MASTER_PORT": "65536"}, r"MASTER_PORT=65536: is no port"),
        ({"SLURM_PROCID": "1", "SLURM_NTASKS": "2"}, r"SLURM_PROCID=1 says that srun started several"),
        ({"SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "2"}, r"srun started 2 processes \(SLURM_STEP_NUM_TASKS\)"),
        ({"OMPI_COMM_WORLD_SIZE": "4"}, r"mpirun started 4 processes \(OMPI_COMM_WORLD_SIZE\), which would each"),
    ],
)
def test_what_is_incomplete_or_malformed_is_one_line(environment: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=rf"^train: {message}"):
        read_launch(environment)


def train_in(folder: Path, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> Any:
    """The exit code of a small training run in a folder, with a launcher's variables."""
    monkeypatch.chdir(folder)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as ended:
        main(["train", "--run", "r", *(f"--set={setting}" for setting in SMALL)])
    return ended.value.code


@pytest.mark.parametrize(
    "environment",
    [
        {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"},
        {"RANK": "0", "LOCAL_RANK": "0"},
        {"LOCAL_RANK": "0"},
        {"SLURM_NTASKS": "2", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"},
        {"PMI_SIZE": "1", "PMI_RANK": "0", "LOCAL_RANK": "0"},
    ],
)
def test_a_single_process_trains_whatever_is_left_of_a_launcher(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], environment: dict[str, str]
) -> None:
    code = train_in(tmp_path, monkeypatch, environment)
    captured = capsys.readouterr()
    assert code == 0, captured.err
    assert "checkpoint: checkpoints/r/adapter_1" in captured.out
    assert {name: os.environ[name] for name in environment} == environment


@pytest.mark.parametrize("environment", [{"RANK": "x"}, {"RANK": "1"}, {"WORLD_SIZE": "2"}, {"LOCAL_RANK": "?"}])
def test_a_broken_launch_is_one_line_on_the_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], environment: dict[str, str]
) -> None:
    code = train_in(tmp_path, monkeypatch, environment)
    lines = capsys.readouterr().err.splitlines()
    assert code == 2 and len(lines) == 1 and lines[0].startswith("markov-cot: train: "), lines
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("arguments", [["runs"], ["recipes"], ["sample", "What is 2+3?", "--checkpoint", "nothing"]])
def test_a_command_for_one_process_is_the_first_ones(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, arguments: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    said = {}
    for rank in ("0", "1"):
        for name, value in {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": "2", **MEETING}.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        captured = capsys.readouterr()
        said[rank] = (ended.value.code, captured.out + captured.err)
    assert said["1"] == (0, "") and said["0"][1]


def test_what_is_wrong_with_a_launch_names_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"^eval: RANK=x: must be a whole number"):
        read_launch({"RANK": "x"}, "eval")
    with pytest.raises(UserError, match=r"^train: RANK=x: must be a whole number"):
        read_launch({"RANK": "x"})


@pytest.mark.parametrize("environment", [{"RANK": "1"}, {"SLURM_STEP_NUM_TASKS": "2"}])
def test_an_evaluation_that_others_would_repeat_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, environment: dict[str, str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as ended:
        main(["eval", "--checkpoint", "base"])
    lines = [line for line in capsys.readouterr().err.splitlines() if line]
    assert ended.value.code == 2 and len(lines) == 1 and lines[0].startswith("markov-cot: eval: "), lines


def test_who_speaks(monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_first() and speaks_for_machine()
    for name, value in {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2", **MEETING}.items():
        monkeypatch.setenv(name, value)
    assert not is_first() and not speaks_for_machine() and speaks_for_machine(after_loss=True)
    monkeypatch.delenv("WORLD_SIZE")
    assert is_first() and speaks_for_machine(), "one that cannot tell says what is wrong"
