"""Weights & Biases (extra `wandb`)."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from typing import Any

import wandb

from markov_cot.alarms.monitor import Event
from markov_cot.tracking.base import RunInfo
from markov_cot.utils.files import replace_file
from markov_cot.utils.text import visible

ID = "wandb.id"
STEP = "step"


class WandbTracker:
    """Logs to one W&B run, which it finds again when the run is resumed.

    W&B cannot forget: after a rollback the repeated steps stand there twice.
    """

    def __init__(self, run: RunInfo, project: str = "markov-cot", **options: Any) -> None:
        """`options` go to `wandb.init` as they are."""
        path = run.folder / ID
        if not path.exists():
            replace_file(path, secrets.token_hex(8).encode())
        self._run = wandb.init(
            project=project,
            name=run.name,
            id=path.read_text(encoding="utf-8"),
            resume="allow",
            dir=str(run.folder),
            config=dict(run.settings),
            **options,
        )
        self._run.define_metric("*", step_metric=STEP)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """One point of every metric, over `step` as the horizontal axis."""
        self._run.log({**values, STEP: step})

    def samples(self, step: int, rows: Sequence[Mapping[str, Any]]) -> None:
        """Sample CoTs as a table."""
        columns = list(dict.fromkeys(key for row in rows for key in row))
        table = wandb.Table(columns=columns, data=[[_cell(row.get(key)) for key in columns] for row in rows])
        self._run.log({"samples": table, STEP: step})

    def alarms(self, events: Sequence[Event]) -> None:
        """Diagnoses as W&B alerts."""
        for event in events:
            self._run.alert(title=f"{event.alarm}: {event.level}", text=visible(event.diagnosis))

    def finish(self, step: int, scores: Mapping[str, float]) -> None:
        """Final scores in the run's summary."""
        self._run.summary.update({**scores, STEP: step})

    def close(self) -> None:
        """Upload what is left."""
        self._run.finish()


def _cell(value: Any) -> Any:
    return visible(value) if isinstance(value, str) else value
