"""MLflow (extra `mlflow`)."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric, Param

from markov_cot.alarms.monitor import Event
from markov_cot.tracking.base import RunInfo
from markov_cot.utils.files import replace_file
from markov_cot.utils.text import visible

ID = "mlflow.id"
LONGEST_VALUE = 6000
"""Characters of a parameter, by MLflow's own limit."""
PARAMS_AT_ONCE = 100


class MlflowTracker:
    """Logs to one MLflow run, which it finds again when the run is resumed.

    MLflow keeps every value of a step: after a rollback the repeated steps have two.
    """

    def __init__(self, run: RunInfo, experiment: str = "markov-cot", tracking_uri: str | None = None) -> None:
        """Without `tracking_uri`, MLflow's own settings decide where."""
        self._client = MlflowClient(tracking_uri)
        path = run.folder / ID
        if not path.exists():
            found = self._client.get_experiment_by_name(experiment)
            experiment_id = found.experiment_id if found else self._client.create_experiment(experiment)
            created = self._client.create_run(experiment_id, run_name=run.name)
            replace_file(path, created.info.run_id.encode())
            params = [Param(key, str(value)[:LONGEST_VALUE]) for key, value in run.settings.items()]
            for start in range(0, len(params), PARAMS_AT_ONCE):
                self._client.log_batch(created.info.run_id, params=params[start : start + PARAMS_AT_ONCE])
        self._id = path.read_text(encoding="utf-8")
        self._client.update_run(self._id, status="RUNNING")

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """One value of every metric at `step`."""
        now = int(time.time() * 1000)
        self._client.log_batch(self._id, metrics=[Metric(key, value, now, step) for key, value in values.items()])

    def samples(self, step: int, rows: Sequence[Mapping[str, Any]]) -> None:
        """Sample CoTs as a table, one artifact a step."""
        columns = list(dict.fromkeys(key for row in rows for key in row))
        table = {"columns": columns, "data": [[row.get(key) for key in columns] for row in rows]}
        self._client.log_dict(self._id, table, f"samples/step_{step:06d}.json")

    def alarms(self, events: Sequence[Event]) -> None:
        """Diagnoses as text artifacts."""
        for event in events:
            name = f"alarms/step_{event.step:06d}_{event.alarm}_{event.level}.txt"
            self._client.log_text(self._id, visible(event.diagnosis), name)

    def finish(self, step: int, scores: Mapping[str, float]) -> None:
        """Final scores as metrics."""
        now = int(time.time() * 1000)
        self._client.log_batch(self._id, metrics=[Metric(key, value, now, step) for key, value in scores.items()])

    def close(self) -> None:
        """Mark the run as finished; resuming it marks it as running again."""
        self._client.set_terminated(self._id)
