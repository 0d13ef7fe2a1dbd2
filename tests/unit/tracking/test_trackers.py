"""Trackers beside the log: one that fails is left out, and the log is whole."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from markov_cot.alarms.monitor import Event
from markov_cot.config.schema import Tracking
from markov_cot.tracking.base import RunInfo
from markov_cot.tracking.multi import open_trackers
from markov_cot.tracking.run_log import NOTHING
from markov_cot.utils.errors import UserError
from markov_cot.utils.layout import LOG

SETTINGS = {"optim.lr": 1e-4, "model.name": "nano", "data.dataset": "sums", "seed": 0, "steps": 4}
EVENT = Event("kl", "warn", 2, 1, {"policy/kl": 1.5}, "The KL is 1.5 nats.")
ROWS = [{"question": "2+2?", "answer": "4", "cot": "two\nand two", "answer_logprob": -0.5}]


def info(folder: Path, step: int = NOTHING) -> RunInfo:
    return RunInfo(folder.name, folder, SETTINGS, "sums", step)


def report(folder: Path, config: Tracking, extra: tuple[Any, ...] = ()) -> None:
    """Four steps, an alarm, samples, histograms and an end."""
    with open_trackers(info(folder), config, 0, extra) as tracker:
        for step in range(1, 5):
            tracker.scalars(step, {"reward/normalized": step / 4, "alarm/kl": float(step > 1), "alarm/ratio": 0.0})
        tracker.alarms([EVENT])
        tracker.samples(4, ROWS)
        tracker.histograms(4, {"reward/histogram": torch.tensor([1.0, 2.0, float("nan")])})
        tracker.finish(4, {"step": 4}, {"hparam/trained_accuracy": 0.5})


def board(folder: Path) -> EventAccumulator:
    found = EventAccumulator(str(folder))
    found.Reload()
    return found


def points(folder: Path, tag: str) -> list[tuple[int, float]]:
    return [(event.step, event.value) for event in board(folder).Scalars(tag)]


class Broken:
    """Fails at the third step."""

    def __init__(self) -> None:
        self.steps: list[int] = []

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        self.steps.append(step)
        if step == 3:
            raise ConnectionError("no route\nto host")

    def close(self) -> None:
        raise AssertionError("it was left out")


def test_one_that_fails_is_named_once_and_the_log_is_whole(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    broken = Broken()
    with caplog.at_level(logging.WARNING):
        report(tmp_path, Tracking(), (broken,))
    assert broken.steps == [1, 2, 3]
    (line,) = [record.getMessage() for record in caplog.records]
    assert "tracker Broken 0" in line and "ConnectionError: no route" in line and "\n" not in line
    rows = [json.loads(line) for line in (tmp_path / LOG).read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2, 3, 4]
    assert points(tmp_path, "reward/normalized") == [(1, 0.25), (2, 0.5), (3, 0.75), (4, 1.0)]


def test_a_library_that_is_not_installed_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "wandb", None)
    with pytest.raises(UserError, match=r"tracker wandb: .*markov-cot\[wandb\]"):
        open_trackers(info(tmp_path), Tracking(trackers=("wandb",)), 0)


def test_tensorboard_has_each_step_once_after_a_kill_and_a_resume(tmp_path: Path) -> None:
    report(tmp_path, Tracking())
    (file,) = tmp_path.glob("events.out.tfevents.*")
    with file.open("ab") as torn:  # what a kill leaves
        torn.write(b"\x10\x00\x00half a record")
    with open_trackers(info(tmp_path, step=2), Tracking(), 0) as tracker:
        tracker.scalars(3, {"reward/normalized": 9.0})
        tracker.rewind(2, 1)
        tracker.scalars(3, {"reward/normalized": 8.0})
    assert points(tmp_path, "reward/normalized") == [(1, 0.25), (2, 0.5), (3, 8.0)]


def test_tensorboard_shows_alarms_that_were_raised_only(tmp_path: Path) -> None:
    report(tmp_path, Tracking())
    tags = board(tmp_path).Tags()
    assert "alarm/kl" in tags["scalars"] and "alarm/ratio" not in tags["scalars"]
    assert points(tmp_path, "alarm/kl")[0] == (2, 1.0)
    assert "alarm/kl/text_summary" in tags["tensors"] and "samples/text_summary" in tags["tensors"]


def test_tensorboard_opens_on_an_overview_with_the_accuracys_band(tmp_path: Path) -> None:
    from tensorboard.plugins.custom_scalar import layout_pb2

    report(tmp_path, Tracking())
    (event,) = board(tmp_path).Tensors("custom_scalars__config__")
    layout = layout_pb2.Layout.FromString(event.tensor_proto.string_val[0])
    held_out, training = layout.category
    assert [held_out.title, training.title] == ["Held out", "Training"]
    (band,) = held_out.chart[0].margin.series
    assert (band.value, band.lower, band.upper) == (
        "eval/sums/accuracy",
        "eval/sums/accuracy_low",
        "eval/sums/accuracy_high",
    )
    charts = {chart.title: list(chart.multiline.tag) for chart in training.chart}
    assert charts["KL to the reference (nats per token)"] == ["policy/kl$"], "a regular expression of one tag"
    shown = " ".join(tag for tags in charts.values() for tag in tags)
    for key in ("reward/answer_logprob", "policy/entropy", "ppo/ratio_max", "cot/repetition", "cot/answer_in_cot"):
        assert f"{key}$" in shown
    assert "alarm/" not in shown


def test_an_alarm_that_comes_again_after_a_rollback_stands_once_in_tensorboard(tmp_path: Path) -> None:
    with open_trackers(info(tmp_path), Tracking(), 0) as tracker:
        tracker.scalars(1, {"policy/kl": 0.5})
        tracker.scalars(2, {"policy/kl": 1.5})
        tracker.alarms([EVENT])
        tracker.rewind(1, 1)
        tracker.scalars(2, {"policy/kl": 1.5})
        tracker.alarms([EVENT])
    for rebuilt in (False, True):
        if rebuilt:
            open_trackers(info(tmp_path, 2), Tracking(), 1).__exit__()
        assert [event.step for event in board(tmp_path).Tensors("alarm/kl/text_summary")] == [EVENT.step]
    assert len((tmp_path / "alarms.jsonl").read_text().splitlines()) == 2, "the log keeps both"


def test_the_hparams_tab_begins_with_what_runs_differ_in(tmp_path: Path) -> None:
    from tensorboard.plugins.hparams.backend_context import _sort_and_reduce_to_hparams_limit
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    settings = {"algorithm.clip": 0.2, "optim.lr": 1e-4, "model.name": "nano", "data.dataset": "sums", "seed": 0}
    settings |= {"rollout.length": 8, "rollout.samples": 4}
    run = RunInfo(tmp_path.name, tmp_path, settings, "sums", NOTHING)
    with open_trackers(run, Tracking(), 0) as tracker:
        tracker.finish(4, {"step": 4}, {"hparam/base_accuracy": 0.25, "hparam/trained_accuracy": 0.5})
    metadata = board(tmp_path).SummaryMetadata("_hparams_/experiment")
    experiment = HParamsPluginData.FromString(metadata.plugin_data.content).experiment
    _sort_and_reduce_to_hparams_limit(experiment)
    assert [info.name for info in experiment.hparam_infos] == [
        *("data.dataset", "model.name", "optim.lr", "rollout.length", "rollout.samples", "seed"),
        "algorithm.clip",
    ]
    assert [info.name.tag for info in experiment.metric_infos] == ["hparam/trained_accuracy", "hparam/base_accuracy"]


def test_wandb_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    report(tmp_path, Tracking(trackers=("wandb",), args={"wandb": {"project": "tests"}}))
    files = list(tmp_path.glob("wandb/offline-run-*/*.wandb"))
    assert len(files) == 1 and files[0].stat().st_size > 0
    assert wandb.run is None, "the run is finished"


def test_mlflow_in_a_local_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    pytest.importorskip("mlflow")
    from mlflow import MlflowClient

    uri = (tmp_path / "mlruns").as_uri()
    report(tmp_path, Tracking(trackers=("mlflow",), args={"mlflow": {"tracking_uri": uri}}))
    client = MlflowClient(uri)
    run = client.get_run((tmp_path / "mlflow.id").read_text())
    history = client.get_metric_history(run.info.run_id, "reward/normalized")
    assert [(m.step, m.value) for m in history] == [(1, 0.25), (2, 0.5), (3, 0.75), (4, 1.0)]
    assert run.data.params["optim.lr"] == "0.0001" and run.info.status == "FINISHED"


def test_trackio_in_a_local_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))  # read when it is imported
    pytest.importorskip("trackio")
    report(tmp_path, Tracking(trackers=("trackio",), args={"trackio": {"project": "tests"}}))
    assert any(path.stat().st_size for path in (tmp_path / "trackio").rglob("*.db"))
