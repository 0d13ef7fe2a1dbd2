"""What a run writes into `runs/<run>/` while it trains: three JSONL logs and TensorBoard events."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.utils.tensorboard import summary

from markov_cot.alarms.monitor import Event
from markov_cot.tracking.tensorboard import EventFile, cut_events
from markov_cot.utils.files import AppendFile, replace_file
from markov_cot.utils.layout import ALARMS, LOG, SAMPLES, SUMMARY
from markov_cot.utils.text import visible

_summary: Any = summary  # has no types
logger = logging.getLogger(__name__)

NOTHING = -1
"""Step before which there is nothing."""
ROLLBACKS = "rollbacks"
BINS = 30
SIDE_BY_SIDE = {
    "Markovian": {
        "reward": ["Multiline", ["reward/answer_logprob", "reward/normalized", "reward/baseline_logprob"]],
        "ratio": ["Multiline", ["policy/reference_ratio", "ppo/ratio_mean", "ppo/ratio_max"]],
        "repetition": ["Multiline", ["cot/repetition", "cot/answer_in_cot"]],
    }
}


class Tracker:
    """Writes a run's metrics; the keys of log.jsonl and the tags of TensorBoard are the same.

    A full disk does not stop it: lines wait in memory, in order, and `sync` fails until all of them are written, so
    that no checkpoint is ever ahead of the logs.
    """

    def __init__(self, folder: Path, last: int, rollbacks: int = 0) -> None:
        """Goes on after step `last`, `NOTHING` for a new run, and drops what was logged after it.

        Of alarms, those from before an earlier rollback stay: they say why there was one. Raises `OSError`.
        """
        self._folder = folder
        self._warned = False
        self._open(last, rollbacks)
        if last == NOTHING:
            self._board.add(0, _summary.custom_scalars(SIDE_BY_SIDE))

    def _open(self, last: int, rollbacks: int) -> None:
        self._rollbacks = rollbacks
        (self._folder / SUMMARY).unlink(missing_ok=True)  # of an end that is no longer the end
        for name in (LOG, SAMPLES, ALARMS):
            _keep_steps(self._folder / name, last, rollbacks)
        cut_events(self._folder, last)
        self._log = AppendFile(self._folder / LOG)
        self._samples = AppendFile(self._folder / SAMPLES)
        self._alarms = AppendFile(self._folder / ALARMS)
        self._board = EventFile(self._folder, last + 1)

    def rewind(self, step: int, rollbacks: int) -> None:
        """Drops what was logged after `step`, but for the alarms, which say why. `rollbacks` counts this one too."""
        self._close()
        self._open(step, rollbacks)

    def sync(self) -> None:
        """Waits until all that was logged is on the disk. Raises `OSError` when it cannot be."""
        for file in self._files:
            file.sync()

    def scalars(self, step: int, metrics: Mapping[str, float]) -> None:
        """One line of log.jsonl and one point of every scalar."""
        self._line(self._log, {"step": step} | {k: v if math.isfinite(v) else None for k, v in metrics.items()})
        self._board.add(step, *(_summary.scalar(key, value) for key, value in metrics.items()))
        self._warn()

    def alarms(self, events: Sequence[Event]) -> None:
        """Alarms that changed, as lines of alarms.jsonl and as TensorBoard text."""
        for event in events:
            self._line(self._alarms, event.as_json() | {ROLLBACKS: self._rollbacks})
            self._board.add(event.step, _summary.text(f"alarm/{event.alarm}", _verbatim(event.diagnosis)))

    def samples(self, step: int, rows: Sequence[Mapping[str, Any]]) -> None:
        """Sample CoTs, as lines of samples.jsonl and as TensorBoard text."""
        for row in rows:
            self._line(self._samples, {"step": step, **row})
        text = "\n\n---\n\n".join("\n".join(_verbatim(f"{k}: {v}") for k, v in row.items()) for row in rows)
        self._board.add(step, _summary.text("samples", text))

    def histograms(self, step: int, values: Mapping[str, Tensor]) -> None:
        """TensorBoard histograms of finite values."""
        for tag, tensor in values.items():
            finite = tensor.detach().float().cpu()
            finite = finite[finite.isfinite()]
            if finite.numel():
                self._board.add(step, _summary.histogram(tag, finite.numpy(), BINS))

    def outcome(
        self, step: int, settings: Mapping[str, Any], result: Mapping[str, Any], scores: Mapping[str, float]
    ) -> None:
        """How the run ended: summary.json, and its settings beside its final score in TensorBoard's hparams tab.

        Raises `OSError` when the summary cannot be written.
        """
        plain = {k: v if isinstance(v, (bool, int, float)) else visible(str(v)) for k, v in settings.items()}
        self._board.add(step, *_summary.hparams(plain, dict(scores)))
        self._board.add(step, *(_summary.scalar(key, value) for key, value in scores.items()))
        replace_file(self._folder / SUMMARY, (json.dumps(result, indent=1) + "\n").encode())

    def __enter__(self) -> Tracker:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    @property
    def _files(self) -> tuple[AppendFile, ...]:
        return self._log, self._samples, self._alarms, self._board

    def _line(self, file: AppendFile, row: Mapping[str, Any]) -> None:
        # Half of a surrogate pair, which broken text may hold, has no UTF-8; JSON's own escapes have room for it.
        file.append((json.dumps(row, ensure_ascii=False) + "\n").encode(errors="backslashreplace"))

    def _warn(self) -> None:
        """Says once that the disk takes nothing, and again when it does."""
        fault = next((file.fault for file in self._files if file.fault), None)
        if fault and not self._warned:
            logger.warning(
                "%s: cannot be written (%s); its lines are kept in memory until they can", self._folder, fault.strerror
            )
        if self._warned and not fault:
            logger.warning("%s: is written again; nothing is missing", self._folder)
        self._warned = fault is not None

    def _close(self) -> None:
        for file in self._files:
            file.close()


class Silent(Tracker):
    """Writes nothing: the first process does."""

    def __init__(self) -> None:
        """Needs no folder."""

    def rewind(self, *_: Any) -> None: ...

    def sync(self) -> None: ...

    def scalars(self, *_: Any) -> None: ...

    def alarms(self, *_: Any) -> None: ...

    def samples(self, *_: Any) -> None: ...

    def histograms(self, *_: Any) -> None: ...

    def outcome(self, *_: Any) -> None: ...

    def _close(self) -> None: ...


def _verbatim(text: str) -> str:
    """Text as Markdown that shows it as it is: one indented block, without codes that would end it."""
    return "\n".join("    " + line for line in visible(text).split("\n"))


def _keep_steps(path: Path, last: int, rollbacks: int) -> None:
    """Drops lines of a JSONL log whose step is after `last`, and lines that are torn or damaged.

    A line that counts fewer `rollbacks` is from before the last one, and stays.
    """
    if not path.exists():
        return
    content = path.read_bytes()
    lines = content.split(b"\n")
    kept = b"".join(line + b"\n" for line in lines[:-1] if _stays(line, last, rollbacks))
    if kept != content:
        replace_file(path, kept)


def most_rollbacks(path: Path) -> int:
    """How many rollbacks there were before the last of a log's lines; 0 where no line says."""
    most = 0
    for line in path.read_bytes().splitlines() if path.exists() else ():
        try:
            most = max(most, json.loads(line)[ROLLBACKS])
        except (ValueError, KeyError, TypeError, RecursionError):
            continue  # torn or damaged, as `_keep_steps` drops them
    return most


def _stays(line: bytes, last: int, rollbacks: int) -> bool:
    try:
        row = json.loads(line)
        return bool(row["step"] <= last or row.get(ROLLBACKS, rollbacks) < rollbacks)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return False
