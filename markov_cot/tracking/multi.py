"""All trackers of a run as one: the JSONL log, which is guaranteed, and the others, which may fail."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from markov_cot.alarms.monitor import Event
from markov_cot.config.schema import Tracking
from markov_cot.tracking.base import RunInfo, Tracker
from markov_cot.tracking.registry import TRACKERS, import_tracker
from markov_cot.tracking.run_log import RunLog
from markov_cot.tracking.step_files import StepFiles, rollouts_folder, validation_folder
from markov_cot.utils.errors import UserError
from markov_cot.utils.text import visible

logger = logging.getLogger(__name__)


def open_trackers(run: RunInfo, config: Tracking, rollbacks: int, extra: Sequence[Tracker] = ()) -> MultiTracker:
    """Open the log and the trackers that `config` names; `extra` are the caller's own objects.

    Raises `OSError` when the log cannot be written, and `UserError` for a tracker whose library is not installed.
    """
    log = RunLog(run.folder, run.step, rollbacks)
    rollouts, validations = (StepFiles(of(run.folder), run.step) for of in (rollouts_folder, validation_folder))
    others: dict[str, Tracker] = {}
    for name in config.trackers:
        try:
            others[name] = TRACKERS.resolve(name)(run, **config.args.get(name, {}))
        except UserError:
            log.close()
            raise
        except Exception as error:  # a library's own, whatever it is: the run needs none of them
            _leave_out(name, error)
    others |= {f"{type(tracker).__name__} {i}": tracker for i, tracker in enumerate(extra)}
    return MultiTracker(log, rollouts, validations if config.validations else None, others)


def check_trackers(config: Tracking) -> None:
    """Import what the trackers that `config` names need, without opening them.

    Raises `UserError` for one whose library is not installed; one that would be left out is named.
    """
    for name in config.trackers:
        try:
            import_tracker(name)
        except UserError:
            raise
        except Exception as error:
            _leave_out(name, error)


class MultiTracker:
    """Passes what a run reports to its log and to every tracker."""

    def __init__(
        self,
        log: RunLog | None = None,
        rollouts: StepFiles | None = None,
        validations: StepFiles | None = None,
        others: Mapping[str, Tracker] | None = None,
    ) -> None:
        """Without a log nothing is written, as in all processes but the first."""
        self._log, self._rollouts, self._validations = log, rollouts, validations
        self._others = dict(others or {})

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """One line of log.jsonl and one point of every scalar."""
        if self._log:
            self._log.scalars(step, values)
        self._tell("scalars", step, values)

    def alarms(self, events: Sequence[Event]) -> None:
        """Alarms that changed."""
        if self._log and events:
            self._log.alarms(events)
            self._tell("alarms", events)

    def samples(self, step: int, rows: Sequence[Mapping[str, Any]]) -> None:
        """Sample CoTs."""
        if self._log:
            self._log.samples(step, rows)
        self._tell("samples", step, rows)

    def rollouts(self, step: int, rows: Iterable[Mapping[str, Any]]) -> None:
        """Every CoT of a step. What the disk refuses is left out with a warning."""
        if self._rollouts:
            with _leaving_out(f"rollouts of step {step}"):
                self._rollouts.write(step, rows)

    def validation(self, step: int, rows: Iterable[Mapping[str, Any]]) -> None:
        """What the held-out problems were answered after a step. What the disk refuses is left out with a warning."""
        if self._validations:
            with _leaving_out(f"answers of the validation at step {step}"):
                self._validations.write(step, rows)

    def final_answers(self, policy: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """What "base" or "trained" answered at the end. What the disk refuses is left out with a warning."""
        if self._validations:
            with _leaving_out(f"final answers of {policy}"):
                self._validations.finish(policy, rows)

    def histograms(self, step: int, values: Mapping[str, Tensor]) -> None:
        """Finite values by tag; tags without any are left out."""
        finite: dict[str, np.ndarray] = {}
        for tag, tensor in values.items():
            of_tag = tensor.detach().float().cpu()
            of_tag = of_tag[of_tag.isfinite()]
            if of_tag.numel():
                finite[tag] = of_tag.numpy()
        self._tell("histograms", step, finite)

    def finish(self, step: int, result: Mapping[str, Any], scores: Mapping[str, float]) -> None:
        """How the run ended after `step`: `result` for summary.json, `scores` for the trackers. Raises `OSError`."""
        if self._log:
            self._log.summarise(result)
        self._tell("finish", step, scores)

    def rewind(self, step: int, rollbacks: int) -> None:
        """Drop what was logged after `step`. `rollbacks` counts this one too."""
        if self._log:
            self._log.rewind(step, rollbacks)
        for files in (self._rollouts, self._validations):
            if files:
                files.rewind(step)
        self._tell("rewind", step)

    def sync(self) -> None:
        """Wait until the log is on the disk. Raises `OSError` when it cannot be."""
        if self._log:
            self._log.sync()

    def __enter__(self) -> MultiTracker:
        return self

    def __exit__(self, *_: object) -> None:
        if self._log:
            self._log.close()
        self._tell("close")

    def _tell(self, what: str, *arguments: Any) -> None:
        for name, tracker in list(self._others.items()):
            method = getattr(tracker, what, None)
            if method is None:
                continue
            try:
                method(*arguments)
            except Exception as error:  # a library's own, whatever it is: the run needs none of them
                _leave_out(name, error)
                del self._others[name]


@contextlib.contextmanager
def _leaving_out(what: str) -> Iterator[None]:
    """Within it what the disk refuses is a warning."""
    try:
        yield
    except OSError as error:
        logger.warning("%s: cannot be written (%s); left out", what, error.strerror)


def _leave_out(name: str, error: Exception) -> None:
    first = (str(error).strip().splitlines() or [""])[0]
    logger.warning(
        "tracker %s: left out from now on (%s: %s); the run continues, and log.jsonl has everything",
        name,
        type(error).__name__,
        visible(first),
    )
