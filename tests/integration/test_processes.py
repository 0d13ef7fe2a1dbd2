"""Several processes compute what one would; docs/scaling.md."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from markov_cot.distributed.process_group import ALONE, Processes, join
from markov_cot.utils.errors import UserError
from tests import small_runs
from tests.launching import run_two
from tests.process_cases import CASES, assert_same, config_of, in_float64, rows

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


@pytest.fixture(scope="module", autouse=True)
def _warm() -> Iterator[None]:
    with in_float64():
        yield


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    """All cases, run by two processes, and what each of these says."""
    folder = tmp_path_factory.mktemp("two")
    return folder, run_two("tests.process_cases", folder, CASES, timeout=120)


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
