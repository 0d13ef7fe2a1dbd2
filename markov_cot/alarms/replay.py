"""`markov-cot doctor`: a run's log replayed through the alarms after the fact."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from markov_cot.alarms.alarm import Alarm
from markov_cot.alarms.logs.cot_texts import WINDOW
from markov_cot.alarms.logs.opening import open_log
from markov_cot.alarms.monitor import Event, Monitor, healthy_until
from markov_cot.alarms.own import load_own
from markov_cot.alarms.registry import ALARMS
from markov_cot.alarms.rules.non_finite import FINITE
from markov_cot.config.alarms import Alarms
from markov_cot.config.loading import apply, build_config, flatten, read_recipe
from markov_cot.config.schema import Config
from markov_cot.utils.errors import UserError
from markov_cot.utils.layout import CHECKPOINT, CONFIG

KNOWN = (*FINITE, "cot/", "leak/", "eval/")
"""What the names of metrics that an alarm looks at begin with."""


@dataclass(slots=True)
class AlarmReport:
    """What the alarms make of a log."""

    log: Path
    rows: int = 0
    first_step: int = 0
    last_step: int = 0
    judged: list[str] = field(default_factory=list)
    """Alarms that had a metric to look at; the log says nothing of the others."""
    events: list[Event] = field(default_factory=list)
    torn: bool = False
    """Whether the log's last line was cut off, and left out."""
    known: Mapping[str, Alarm] = field(default_factory=lambda: ALARMS)
    """The alarms it was replayed through, by name."""
    left_out: tuple[str, ...] = ()
    """The run's own alarms that were not asked for. They are code, and a run's folder may come from anywhere."""

    @property
    def critical(self) -> list[Event]:
        """The first critical event of each alarm, in the order they came."""
        return self._first("critical")

    @property
    def warnings(self) -> list[Event]:
        """The first warning of each alarm that never became critical."""
        grave = {event.alarm for event in self.critical}
        return [event for event in self._first("warn") if event.alarm not in grave]

    @property
    def is_healthy(self) -> bool:
        """Whether no alarm was ever critical."""
        return not self.critical

    def as_json(self) -> dict[str, Any]:
        """For programs: the verdict, and every change of every alarm."""
        return {
            "log": str(self.log),
            "healthy": self.is_healthy,
            "rows": self.rows,
            "first_step": self.first_step,
            "last_step": self.last_step,
            "judged": self.judged,
            "critical": {event.alarm: event.step for event in self.critical},
            "warnings": {event.alarm: event.step for event in self.warnings},
            "events": [event.as_json() for event in self.events],
        }

    def _first(self, level: str) -> list[Event]:
        first: dict[str, Event] = {}
        for event in self.events:
            if event.level == level:
                first.setdefault(event.alarm, event)
        return list(first.values())


def examine(path: Path, changes: Mapping[str, Any] | None = None) -> AlarmReport:
    """Replay a log through the alarms, set as in the config.yaml beside it if there is one.

    Args:
        path: of the log, or of the folder that is one.
        changes: settings `alarms.*` by key. Alarms of the user's own are imported only if `alarms.own` is among them.

    Raises:
        UserError: for a log that cannot be read, or that has nothing the alarms know.
    """
    log, beside = open_log(path), _settings_beside(path, changes or {})
    own = load_own(beside.alarms)
    report, monitor, known = AlarmReport(path, left_out=beside.left_out), None, bool(own)
    for entry in log.entries():
        if monitor is None:
            settings = beside.settings if log.settings is None else log.settings
            monitor = Monitor(beside.alarms, settings, own=own)
            report.first_step = entry.step
        report.rows, report.last_step = report.rows + 1, entry.step
        known = known or any(key.startswith(KNOWN) for key in entry.metrics)
        report.events += monitor.update(entry.step, entry.metrics, entry.example or None)
    if monitor is None:
        raise UserError(f"log {path}: has no rows; was the run stopped before its first step?")
    if not known:
        raise UserError(
            f"log {path}: has no metric that the alarms know, such as reward/normalized or policy/kl, and fewer than "
            f"{WINDOW} CoTs; markov-cot doctor --explain lists the names that are read"
        )
    report.known = monitor.known
    report.judged = [name for name in monitor.known if name in monitor.judged()]
    report.torn = log.torn
    return report


@dataclass(frozen=True, slots=True)
class WayBack:
    """From where a run with critical alarms can be continued."""

    run: str
    config: Config
    checkpoint: str
    """Name of its last one from before what the alarms saw began."""


def find_way_back(report: AlarmReport) -> WayBack | None:
    """None where the log is not in a run's own folder, or no checkpoint that old is kept."""
    folder = report.log if report.log.is_dir() else report.log.parent
    if report.is_healthy or not (folder / CONFIG).is_file():
        return None
    try:
        config = build_config(read_recipe(str(folder / CONFIG)), CONFIG)
    except UserError:  # of another version, which the log can be judged without
        return None
    run = folder.resolve().name
    if Path(config.checkpoint.runs_dir, run).resolve() != folder.resolve():
        return None
    last = healthy_until(min(event.since for event in report.critical))
    matches = [
        CHECKPOINT.fullmatch(path.name) for path in Path(config.checkpoint.checkpoints_dir, run).glob("adapter_*")
    ]
    steps = [int(match[1]) for match in matches if match and int(match[1]) <= last]
    return WayBack(run, config, f"adapter_{max(steps)}") if steps else None


@dataclass(frozen=True, slots=True)
class _Beside:
    """What the config beside a log says."""

    settings: dict[str, Any]
    """All of the run's, flat."""
    alarms: Alarms
    left_out: tuple[str, ...]
    """The run's own alarms that were not asked for."""


def _settings_beside(log: Path, changes: Mapping[str, Any]) -> _Beside:
    """Read the settings beside a log. Only the alarms' must be valid: the run may be of another version."""
    if wrong := next((key for key in changes if not key.startswith("alarms.")), None):
        raise UserError(f"--set {wrong}: a finished log is judged with other settings of alarms.* only; leave it out")
    path = (log if log.is_dir() else log.parent) / CONFIG
    values = read_recipe(str(path)) if path.is_file() else {}
    saved = build_config({"alarms": values.get("alarms", {})}, str(path)).alarms
    asked = changes.get("alarms.own", ())
    left_out = tuple(name for name in saved.own if not isinstance(asked, list | tuple) or name not in asked)
    args = {name: of_one for name, of_one in saved.own_args.items() if name not in left_out}
    kept = saved.model_dump(mode="json") | {"own": [], "own_args": args}
    return _Beside(flatten(values), build_config(apply({"alarms": kept}, changes), "--set").alarms, left_out)
