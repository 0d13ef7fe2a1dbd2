"""Trackio (extra `trackio`)."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import trackio

from markov_cot.alarms.monitor import Event
from markov_cot.tracking.base import RunInfo
from markov_cot.utils.text import visible


class TrackioTracker:
    """Logs to the Trackio run of the run's name; the database is local unless `space_id` names a Space.

    Trackio cannot forget: after a rollback the repeated steps stand there twice.
    """

    def __init__(self, run: RunInfo, project: str = "markov-cot", **options: Any) -> None:
        """`options` go to `trackio.init` as they are."""
        options = {"auto_log_cpu": False, "auto_log_gpu": False} | options
        with contextlib.redirect_stdout(sys.stderr):  # results alone go to stdout
            self._run = trackio.init(
                project=project, name=run.name, config=dict(run.settings), resume="allow", embed=False, **options
            )

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """One point of every metric."""
        self._run.log(dict(values), step=step)

    def alarms(self, events: Sequence[Event]) -> None:
        """Diagnoses as alerts."""
        with contextlib.redirect_stdout(sys.stderr):
            for event in events:
                level = trackio.AlertLevel.ERROR if event.is_critical else trackio.AlertLevel.WARN
                self._run.alert(f"{event.alarm}: {event.level}", visible(event.diagnosis), level)

    def samples(self, step: int, rows: Sequence[Mapping[str, Any]]) -> None:
        """Sample CoTs as text in Markdown: Trackio's own tables need pandas."""
        texts = ("\n".join(f"**{key}**: {visible(str(value))}" for key, value in row.items()) for row in rows)
        self._run.log({"samples": trackio.Markdown("\n\n---\n\n".join(texts))}, step=step)

    def finish(self, step: int, scores: Mapping[str, float]) -> None:
        """Final scores."""
        self._run.log(dict(scores), step=step)

    def close(self) -> None:
        """Write what is left."""
        with contextlib.redirect_stdout(sys.stderr):
            self._run.finish()
