"""What `report` is made from: a run's folder, or a log of somebody else's program."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from markov_cot.alarms.logs.opening import find_log, open_log
from markov_cot.alarms.monitor import Event
from markov_cot.alarms.replay import AlarmReport, examine
from markov_cot.config.loading import flatten, read_recipe
from markov_cot.evaluation.run import Run
from markov_cot.utils.errors import UserError
from markov_cot.utils.layout import ALARMS, CONFIG, LOG

Columns = dict[str, dict[int, float]]
"""By metric, its finite values by step."""


@dataclass(frozen=True)
class Source:
    """A run, or a log alone."""

    name: str
    log: Path
    run: Run | None
    """None for a log without a run's folder around it."""

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The run's, flat, as its config.yaml has them; empty for a log alone."""
        return flatten(read_recipe(str(self.run.folder / CONFIG))) if self.run else {}

    @cached_property
    def columns(self) -> Columns:
        """The log's metrics, by this project's keys. Raises `UserError` for a row that is none of a log."""
        found: Columns = {}
        for entry in open_log(self.log).entries():
            for key, value in entry.metrics.items():
                if value is not None and math.isfinite(value):
                    found.setdefault(key, {})[entry.step] = value
        return found

    @cached_property
    def alarms(self) -> AlarmReport:
        """The log replayed through the alarms."""
        return examine(self.log)

    @cached_property
    def events(self) -> list[Event]:
        """The alarms that changed: as the run recorded them, its own ones too, else as the replay gives them."""
        if self.run is None or not (self.run.folder / ALARMS).is_file():
            return self.alarms.events
        return [
            Event(str(row["alarm"]), str(row.get("level")), row["step"], row["since"], {}, str(row.get("diagnosis")))
            for row in self.run.alarms()
            if "alarm" in row and isinstance(row.get("step"), int) and isinstance(row.get("since"), int)
        ]

    def setting(self, key: str, otherwise: Any = None) -> Any:
        """Return one setting."""
        return self.settings.get(key, otherwise)


def open_sources(given: Sequence[str], runs_dir: Path) -> list[Source]:
    """Return what each stands for. Raises `UserError` for one that is given twice."""
    found: list[Source] = []
    for name in given:
        source = open_source(name, runs_dir)
        if any(source.log.resolve() == other.log.resolve() for other in found):
            raise UserError(f"{name}: is given twice; name each run once")
        found.append(source)
    return found


def open_source(given: str, runs_dir: Path) -> Source:
    """Return what a name, a folder or a file stands for. Raises `UserError` where there is nothing to report on."""
    for folder in (Path(given).expanduser(), runs_dir / given):
        if (folder / CONFIG).is_file():
            if not (folder / LOG).is_file():
                raise UserError(f"run {given}: has no {LOG}; it was stopped before its first step")
            named = folder if folder.name not in ("", "..") else folder.resolve()
            return Source(named.name, named / LOG, Run(named))
    log = find_log(given, runs_dir)
    return Source(log.resolve().parent.name if log.name == LOG else log.name, log, None)
