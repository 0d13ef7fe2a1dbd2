"""Readers of logs, one a format, on rows made by hand."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet
from torch.utils.tensorboard import SummaryWriter

from markov_cot.alarms.logs.console import Console
from markov_cot.alarms.logs.cot_texts import WINDOW
from markov_cot.alarms.logs.entry import Entry, averaged, whole_number
from markov_cot.alarms.logs.event_files import EventFiles
from markov_cot.alarms.logs.opening import find_log, open_log
from markov_cot.alarms.logs.published import Published
from markov_cot.alarms.logs.step_rows import StepRows
from markov_cot.alarms.logs.trainer_state import TrainerState
from markov_cot.utils.errors import UserError


def write(path: Path, rows: Iterable[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def read(path: Path) -> list[Entry]:
    return list(open_log(path).entries())


def metrics_of(entries: Iterable[Entry]) -> list[tuple[int, dict[str, float | None]]]:
    return [(entry.step, entry.metrics) for entry in entries]


# --- numbers


def test_means_by_hand() -> None:
    assert averaged([{"a": 1.0, "b": 2.0}, {"a": 3.0}, {"c": None, "a": 2.0}]) == {"a": 2.0, "b": 2.0, "c": None}
    assert averaged([]) == {}


@pytest.mark.parametrize(
    ("value", "step"),
    [(3, 3), (3.0, 3), (-1, -1), (3.5, None), (True, None), ("3", None), (None, None), (math.inf, None)],
)
def test_steps_are_whole_numbers(value: Any, step: int | None) -> None:
    assert whole_number(value) == step
    assert whole_number(10**400) is whole_number(1e300) is None, "no run comes to it"


# --- JSON lines with a step


def test_rows_of_one_step_are_one(tmp_path: Path) -> None:
    """prime-rl logs what it measures group by group, and rows of a time between them."""
    rows = [
        {"step": 1, "time": 5.0, "optim/lr": 1e-4},
        {"step": 1, "time": 5.1, "entropy/all/mean": 0.5},
        {"step": None, "time": 6.0, "inference/throughput": 10},
        {"step": 2, "time": 7.0, "optim/lr": 2e-4},
    ]
    log = read(write(tmp_path / "metrics.jsonl", rows))
    assert [entry.step for entry in log] == [1, 2]
    assert log[0].metrics["policy/entropy"] == 0.5 and log[0].metrics["optim/lr"] == 1e-4


def test_rows_of_verl_nest_their_metrics(tmp_path: Path) -> None:
    rows = [{"step": 4, "data": {"actor/entropy": 0.4, "critic/score/mean": 0.7, "training/global_step": 4}}]
    ((step, metrics),) = metrics_of(read(write(tmp_path / "metrics.jsonl", rows)))
    assert step == 4 and metrics["policy/entropy"] == 0.4 and metrics["reward/value"] == 0.7


def test_rows_of_openrlhf_name_their_step(tmp_path: Path) -> None:
    rows = [{"train/global_step": 2, "train/kl": 0.1, "train/reward": 1.5}]
    assert metrics_of(read(write(tmp_path / "x.jsonl", rows))) == [(2, {"policy/kl": 0.1, "reward/value": 1.5})]


def test_completions_are_measured_and_numbers_averaged(tmp_path: Path) -> None:
    rows = [
        {"step": 1, "prompt": "12+35?", "completion": "It is 47." if i % 2 else "###", "answer": "47", "reward": i % 2}
        for i in range(WINDOW)
    ]
    (entry,) = read(write(tmp_path / "completions.jsonl", rows))
    assert entry.metrics["reward/value"] == 0.5
    assert entry.metrics["cot/answer_in_cot"] == 0.5
    assert entry.metrics["cot/symbols"] == 0.5
    assert entry.example == "###"


def test_samples_beside_a_log_fill_in_what_it_lacks(tmp_path: Path) -> None:
    write(tmp_path / "log.jsonl", [{"step": i, "cot/compression": 1.25} for i in range(20)])
    write(tmp_path / "samples.jsonl", [{"step": i, "cot": "□", "answer": "47"} for i in range(20)])
    log = read(tmp_path / "log.jsonl")
    assert log[WINDOW - 2].metrics == {"cot/compression": 1.25}, "too few samples before it"
    assert log[-1].metrics["cot/compression"] == 1.25, "the log's own"
    assert log[-1].metrics["cot/symbols"] == 1 and log[-1].metrics["cot/answer_in_cot"] == 0
    assert log[-1].example == "□"


def test_samples_leave_alone_what_some_rows_have(tmp_path: Path) -> None:
    """Else a measure of three CoTs would stand between measures of all."""
    rows: list[dict[str, float]] = [{"step": 0}, *({"step": i, "cot/symbols": 0.0} for i in range(1, 20))]
    write(tmp_path / "log.jsonl", rows)
    write(tmp_path / "samples.jsonl", [{"step": 0, "cot": "□"}] * WINDOW)
    assert "cot/symbols" not in read(tmp_path / "log.jsonl")[0].metrics


# --- the published code


def batch(index: int, reward: float = 1.0, **more: Any) -> dict[str, Any]:
    return {"Batch Index": index, "Avg Log Prob": reward, "Action": "so 47", "Observation": "Answer: 47", **more}


@pytest.mark.parametrize(
    "header",
    [
        [],
        [{"model_learning_rate": 1e-4, "use_ppo": True}],
        [{"hyperparameters": {"model_learning_rate": 1e-4, "use_ppo": True}, "time": "now"}],
    ],
    ids=["none", "flat", "nested"],
)
def test_headers_of_published_logs(tmp_path: Path, header: list[dict[str, Any]]) -> None:
    log = open_log(write(tmp_path / "x.log", [*header, batch(0), batch(1)]))
    assert isinstance(log, Published)
    assert [entry.step for entry in log.entries()] == [0, 1]
    assert log.settings == ({"optim.lr": 1e-4, "algorithm.loss": "ppo (published code)"} if header else {})


def test_a_constant_index_is_none(tmp_path: Path) -> None:
    assert [entry.step for entry in read(write(tmp_path / "x.log", [batch(4)] * 3))] == [0, 1, 2]
    assert [entry.step for entry in read(write(tmp_path / "x.log", [batch(4)]))] == [4], "one row says nothing"
    assert [entry.step for entry in read(write(tmp_path / "x.log", [batch(4), batch(4), batch(8)]))] == [4, 4, 8]


def test_infinity_in_a_published_log(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    path.write_text('{"Batch Index": 1, "EI Threshold": Infinity, "Avg Log Prob": -Infinity, "Loss": 0.5}\n')
    assert metrics_of(read(path)) == [(1, {"reward/answer_logprob": -math.inf, "loss/total": 0.5})]


def test_cots_of_published_logs(tmp_path: Path) -> None:
    old = [batch(i, Action="so 47" if i % 4 else "so 1476") for i in range(WINDOW)]
    log = read(write(tmp_path / "old.log", old))
    assert log[-1].metrics["cot/answer_in_cot"] == 0.75, "1476 does not state 47"
    assert log[-2].metrics.keys() == {"reward/answer_logprob"}
    assert log[0].example == "so 1476"
    new = [
        {
            "Batch Index": i,
            "Example": {"Actor Reasoning": "a", "Answer": "B", "Contains Answer": 0.25},
            "Training Metrics": {"Loss": 0.1},
        }
        for i in range(WINDOW)
    ]
    assert read(write(tmp_path / "new.log", new))[-1].metrics["cot/answer_in_cot"] == 0.25, "of all of the batch"


def test_a_text_to_continue_is_no_answer(tmp_path: Path) -> None:
    rows = [batch(i, Observation="and so on") | {"Reasoning Contains Answer": False} for i in range(WINDOW)]
    metrics = read(write(tmp_path / "x.log", rows))[-1].metrics
    assert "cot/answer_in_cot" not in metrics and "cot/compression" in metrics


# --- transformers' Trainer


def state(*history: Any) -> str:
    return json.dumps({"best_metric": None, "log_history": list(history)}, indent=2)


def test_the_history_of_a_trainer_state(tmp_path: Path) -> None:
    path = tmp_path / "trainer_state.json"
    path.write_text(
        state(
            {"step": 5, "kl": 0.01, "reward": 0.5, "epoch": 0.1},
            {"step": 5, "eval_reward": 0.4},
            {"step": 10, "kl": math.nan, "loss": "0.25"},
        )
    )
    log = read(path)
    assert [entry.step for entry in log] == [5, 10]
    assert log[0].metrics == {"policy/kl": 0.01, "reward/value": 0.5, "epoch": 0.1, "eval_reward": 0.4}
    assert log[1].metrics["loss/total"] == 0.25 and math.isnan(log[1].metrics["policy/kl"] or 0)


def test_the_newest_checkpoint_has_the_state(tmp_path: Path) -> None:
    for step in (9, 10):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        (folder / "trainer_state.json").write_text(state({"step": step, "kl": 0.0}))
    assert find_log(str(tmp_path), tmp_path / "runs") == tmp_path / "checkpoint-10" / "trainer_state.json"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{\n", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("[]", 'has no list "log_history"'),
        ('{"log_history": 3}', 'has no list "log_history"'),
        ('{"log_history": [3]}', 'entry 1 of "log_history" should be a mapping with a whole number as its "step"'),
        ('{"log_history": [{"step": 1}, {"loss": 1}]}', "entry 2"),
    ],
)
def test_broken_trainer_states(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "trainer_state.json"
    path.write_text(text)
    with pytest.raises(UserError, match=r"trainer_state\.json: ") as error:
        read(path)
    assert message in str(error.value)


def test_what_trainer_prints(tmp_path: Path) -> None:
    path = tmp_path / "out.txt"
    path.write_text(
        "loading\n 10%|#  | 1/10\r{'loss': '0.5', 'kl': '1.2e-05', 'epoch': '0.1'}\n"
        "{'eval_runtime': '3.1'}\n{'loss': __import__('os')}\n{'loss': '0.25', 'grad_norm': 'nan'}\n{'broken\n"
    )
    log = open_log(path)
    assert isinstance(log, Console)
    rows = metrics_of(log.entries())
    assert rows[0] == (1, {"loss/total": 0.5, "policy/kl": 1.2e-05})
    assert rows[1][0] == 2 and rows[1][1]["loss/total"] == 0.25 and math.isnan(rows[1][1]["optim/grad_norm"] or 0)
    assert len(rows) == 2, "code is not run, and an evaluation is no step"


# --- TRL's completions


def completions(folder: Path, texts: dict[int, str]) -> Path:
    folder.mkdir(parents=True)
    for step, text in texts.items():
        rows = [{"step": step, "completion": [{"role": "assistant", "content": text}], "right": 0.5}] * WINDOW
        parquet.write_table(pyarrow.Table.from_pylist(rows), folder / f"completions_{step:05d}.parquet")
    return folder


def test_a_folder_of_completions(tmp_path: Path) -> None:
    completions(tmp_path / "out" / "completions", {5: "fine", 10: "####"})
    found = find_log(str(tmp_path / "out"), tmp_path / "runs")
    log = read(found)
    assert found == tmp_path / "out" / "completions"
    assert [(entry.step, entry.metrics["cot/symbols"], entry.example) for entry in log] == [
        (5, 0, "fine"),
        (10, 1, "####"),
    ]
    assert read(found / "completions_00010.parquet") == log[1:]


def test_completions_beside_a_trainer_state(tmp_path: Path) -> None:
    completions(tmp_path / "completions", {10: "####"})
    path = tmp_path / "checkpoint-10" / "trainer_state.json"
    path.parent.mkdir()
    path.write_text(state({"step": 5, "kl": 0.1}, {"step": 10, "kl": 0.2}))
    log = read(find_log(str(tmp_path), tmp_path / "runs"))
    assert log[0].metrics == {"policy/kl": 0.1}
    assert log[1].metrics["policy/kl"] == 0.2 and log[1].metrics["cot/symbols"] == 1


@pytest.mark.parametrize("name", ["completions_00010.parquet", "other.parquet"])
def test_broken_completions(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"is no Parquet file|should be called completions_STEP\.parquet"):
        read(tmp_path / name)


# --- TensorBoard


def board(folder: Path, *points: tuple[str, float, int], new: bool = False) -> Path:
    writer = SummaryWriter(str(folder))
    for tag, value, step in points:
        writer.add_scalar(tag, value, step, new_style=new)
    writer.add_text("samples", "text", 1)
    writer.close()
    return folder


@pytest.mark.parametrize("new", [False, True])
def test_points_become_rows(tmp_path: Path, new: bool) -> None:
    points = (("train/kl", 0.5, 2), ("train/kl", 0.25, 1), ("train/loss", math.nan, 2), ("policy/entropy", 1.0, 1))
    log = read(board(tmp_path, *points, new=new))
    assert [entry.step for entry in log] == [1, 2]
    assert log[0].metrics == {"policy/kl": 0.25, "policy/entropy": 1.0}
    assert log[1].metrics["policy/kl"] == 0.5 and math.isnan(log[1].metrics["loss/total"] or 0)


def test_the_later_point_counts(tmp_path: Path) -> None:
    board(tmp_path, ("train/kl", 0.5, 1))
    first = next(iter(tmp_path.iterdir()))
    first.rename(tmp_path / "events.out.tfevents.1")
    board(tmp_path, ("train/kl", 0.75, 1))
    assert metrics_of(read(tmp_path)) == [(1, {"policy/kl": 0.75})]


def test_a_torn_event_file(tmp_path: Path) -> None:
    board(tmp_path, ("train/kl", 0.5, 1), ("train/kl", 0.25, 2))
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-100])
    assert metrics_of(read(path))[0] == (1, {"policy/kl": 0.5})
    path.write_bytes(b"no event file")
    assert read(path) == []


def test_a_folder_of_event_files_is_found(tmp_path: Path) -> None:
    board(tmp_path / "out" / "runs" / "one", ("train/kl", 0.5, 1))
    found = find_log(str(tmp_path / "out"), tmp_path / "runs")
    assert found == tmp_path / "out" / "runs" / "one" and isinstance(open_log(found), EventFiles)
    board(tmp_path / "out" / "runs" / "two", ("train/kl", 0.5, 1))
    with pytest.raises(UserError, match=r"event files of 2 runs; give one of .*one, .*two"):
        find_log(str(tmp_path / "out"), tmp_path / "runs")


# --- which reader


@pytest.mark.parametrize(
    ("text", "reader"),
    [
        ('{"step": 1}\n', StepRows),
        ('{"a": 1}\n{"step": 1}\n', StepRows),
        ('{"a": 1}\n{"Batch Index": 1}\n', Published),
        ('{"hyperparameters": {}}\n', Published),
        ('{\n  "log_history": []\n}\n', TrainerState),
        ('{"epoch": 1, "log_history": []}', TrainerState),
        ("{'loss': '1'}\n", Console),
        ("step,loss\n", StepRows),
        ("", StepRows),
    ],
)
def test_the_reader_is_told_by_the_beginning(tmp_path: Path, text: str, reader: type) -> None:
    path = tmp_path / "log"
    path.write_text(text)
    assert isinstance(open_log(path), reader)


fragments = st.sampled_from(
    [
        b'{"step": 1, "kl": 0.5}\n',
        b'{"Batch Index": 4, "Action": "a"}\n',
        b'{"log_history": [',
        b"{'loss': '1'}\n",
        b"{\n",
        b"null",
        b"]}",
        b'"completions": [[{"content": 1}]]',
        b"\xff\x00",
        b"1e999",
        b"\r",
    ]
)
names = st.sampled_from(
    ["log.jsonl", "x.log", "trainer_state.json", "events.out.tfevents.1", "completions_00001.parquet", "samples.jsonl"]
)


@given(names, st.lists(fragments | st.binary(max_size=20), max_size=6).map(b"".join))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_file_is_read_or_refused(tmp_path: Path, name: str, data: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    try:
        read(path)
    except UserError as error:
        assert name in str(error)
