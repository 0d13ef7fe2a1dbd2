"""TensorBoard: event files in the run's folder, rebuilt from the JSONL log whenever the run continues.

So each step stands in them once, whatever a kill or a rollback left behind. Histograms, which the log does not hold,
are kept from the files before. The files are torch's own, so whatever listens to its `SummaryWriter` hears them too.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from torch.utils.tensorboard import FileWriter, SummaryWriter, summary

from markov_cot.alarms.monitor import Event
from markov_cot.tracking.base import RunInfo
from markov_cot.tracking.run_log import NOTHING, read_rows
from markov_cot.utils.layout import ALARMS, LOG, SAMPLES
from markov_cot.utils.text import visible

_summary: Any = summary  # has no types
FILES = "events.out.tfevents.*"
ALARM = "alarm/"
BINS = 30
FIRST_SETTINGS = ("optim.lr", "model.name", "data.dataset", "seed", "rollout.length", "rollout.samples")
"""Columns that the HParams tab begins with."""


def overview(dataset: str) -> dict[str, dict[str, tuple[str, list[str]]]]:
    """Return the custom-scalars layout: a chart for each quantity worth watching, held-out accuracy with its band."""
    held_out = f"eval/{dataset}"
    return {
        "Held out": {
            f"{dataset}: accuracy, 95 % interval": (
                "Margin",
                [f"{held_out}/accuracy", f"{held_out}/accuracy_low", f"{held_out}/accuracy_high"],
            ),
            f"{dataset}: answer log-prob (nats per token)": _lines(f"{held_out}/answer_logprob"),
        },
        "Training": {
            "answer log-prob, and baseline's (nats)": _lines("reward/answer_logprob", "reward/baseline_logprob"),
            "reward over the baseline (nats per token)": _lines("reward/normalized"),
            "KL to the reference (nats per token)": _lines("policy/kl"),
            "entropy (nats per token)": _lines("policy/entropy"),
            "ratio to the reference": _lines("policy/reference_ratio"),
            "ratio of the update": _lines("ppo/ratio_mean", "ppo/ratio_max"),
            "repetition": _lines("cot/repetition"),
            "answer stands in the CoT": _lines("cot/answer_in_cot"),
        },
    }


def _lines(*tags: str) -> tuple[str, list[str]]:
    """A chart of these tags alone: TensorBoard takes them for regular expressions of how a tag begins."""
    return "Multiline", [f"{re.escape(tag)}$" for tag in tags]


class TensorBoardTracker:
    """Writes what the log holds already, and then what comes."""

    def __init__(self, run: RunInfo) -> None:
        """Raises `OSError` when the folder cannot be written."""
        self._run = run
        self._raised: set[str] = set()
        self._writer: SummaryWriter
        self._file: FileWriter
        self._open(run.step)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """One point of every metric. An alarm's flag has a chart from when it is first raised."""
        self._scalars(step, values, time.time())

    def samples(self, step: int, rows: Sequence[Mapping[str, Any]]) -> None:
        """Sample CoTs as text."""
        texts = ("\n".join(_verbatim(f"{k}: {v}") for k, v in row.items() if k != "step") for row in rows)
        self._writer.add_text("samples", "\n\n---\n\n".join(texts), step)

    def alarms(self, events: Sequence[Event]) -> None:
        """Diagnoses as text."""
        for event in events:
            self._alarm(event.alarm, event.diagnosis, event.step)

    def histograms(self, step: int, values: Mapping[str, np.ndarray]) -> None:
        """Distributions over a step's CoTs."""
        for tag, array in values.items():
            self._writer.add_histogram(tag, array, step, bins=BINS)

    def finish(self, step: int, scores: Mapping[str, float]) -> None:
        """The run's settings beside its scores in the HParams tab."""
        plain = {key: _hparam(value) for key, value in self._run.settings.items()}
        results = dict(sorted(scores.items(), reverse=True))  # the trained actor's before the base's
        about, *rest = _summary.hparams(plain, results)
        for each in (_first_settings_first(about), *rest):
            self._file.add_summary(each, step)
        for key, value in scores.items():
            self._writer.add_scalar(key, value, step)

    def rewind(self, step: int) -> None:
        """Rebuild the files from the log, which ends at `step`."""
        self.close()
        self._open(step)

    def close(self) -> None:
        """Write what is left."""
        self._writer.close()

    def _open(self, last: int) -> None:
        files = sorted(self._run.folder.glob(FILES))
        histograms = [event for path in files for event in _histograms(path, last)]
        for path in files:
            path.unlink()
        # To a TensorBoard that is watching, a step to purge from says that all it has seen is void.
        self._writer = SummaryWriter(str(self._run.folder), purge_step=None if last == NOTHING else 0)
        assert self._writer.file_writer is not None
        self._file = self._writer.file_writer
        self._writer.add_custom_scalars(overview(self._run.dataset))
        if last != NOTHING:
            self._rebuild(self._run.folder, last)
            for event in histograms:
                self._file.add_event(event, event.step, event.wall_time)

    def _rebuild(self, folder: Path, last: int) -> None:
        rows = read_rows(folder / LOG)
        for row, when in zip(rows, _wall_times(rows), strict=True):
            values = {key: float("nan") if value is None else value for key, value in row.items() if key != "step"}
            self._scalars(row["step"], values, when)
        for step, group in groupby(read_rows(folder / SAMPLES), key=lambda row: row["step"]):
            self.samples(step, list(group))
        # Those of later steps, or of a step that was rolled back and taken again, are of another course of the run.
        diagnoses = {(row["alarm"], row["step"]): row["diagnosis"] for row in read_rows(folder / ALARMS)}
        for (alarm, step), diagnosis in diagnoses.items():
            if step <= last:
                self._alarm(alarm, diagnosis, step)

    def _scalars(self, step: int, values: Mapping[str, float], when: float) -> None:
        self._raised |= {key for key, value in values.items() if key.startswith(ALARM) and value}
        shown = {key: value for key, value in values.items() if not key.startswith(ALARM) or key in self._raised}
        merged = _summary.Summary(value=[v for k, x in shown.items() for v in _summary.scalar(k, x).value])
        self._file.add_summary(merged, step, when)

    def _alarm(self, name: str, diagnosis: str, step: int) -> None:
        self._writer.add_text(ALARM + name, _verbatim(diagnosis), step)


def _first_settings_first(about: Any) -> Any:
    """The summary of `hparams` that lists the columns, changed in place.

    TensorBoard 2.21 sorts them by name, those marked as differing between runs before the others.
    """
    data = about.value[0].metadata.plugin_data
    content = HParamsPluginData.FromString(data.content)
    for info in content.experiment.hparam_infos:
        info.differs = info.name in FIRST_SETTINGS
    data.content = content.SerializeToString()
    return about


def _histograms(path: Path, last: int) -> Iterator[Any]:
    """The events of a file that hold histograms of steps up to `last`; a torn end is passed over."""
    for event in LegacyEventFileLoader(str(path)).Load():
        if event.step <= last and any(value.HasField("histo") for value in event.summary.value):
            yield event


def _wall_times(rows: Sequence[Mapping[str, Any]]) -> Iterable[float]:
    """When each row was logged, as far as the steps' own times tell: the last of them now."""
    seconds = [float(row.get("perf/step_seconds") or 0.0) for row in rows]
    ends = np.cumsum(seconds)
    return (time.time() - (ends[-1] - ends)).tolist() if len(ends) else []


def _hparam(value: Any) -> bool | int | float | str:
    return value if isinstance(value, (bool, int, float)) else visible(str(value))


def _verbatim(text: str) -> str:
    """Text as Markdown that shows it as it is: one indented block, without codes that would end it."""
    return "\n".join("    " + line for line in visible(text).split("\n"))
