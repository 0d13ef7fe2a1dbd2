"""The alarms' state machine: metrics of one step in, changes of alarms out. Its state is JSON."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from markov_cot.alarms.alarm import Alarm, Context, Row
from markov_cot.alarms.diagnosis import diagnose, eased
from markov_cot.alarms.gauge import CRITICAL, OK, Gauge, Reading
from markov_cot.alarms.registry import ALARMS
from markov_cot.config.alarms import Alarms, Levels
from markov_cot.utils.hooks import HookError

LEVELS = ("cleared", "warn", "critical")
"""Names of levels 0, 1 and 2."""


@dataclass(frozen=True, slots=True)
class Event:
    """An alarm that changed its level."""

    alarm: str
    level: str
    """"warn", "critical" or "cleared"."""
    step: int
    since: int
    """Step at which what was seen began."""
    values: dict[str, float]
    """The metrics behind it."""
    diagnosis: str
    """One paragraph: what was seen, since when, an example CoT, the likely cause, what to change."""

    @property
    def is_critical(self) -> bool:
        """Whether the run should not go on like this."""
        return self.level == LEVELS[CRITICAL]

    @property
    def is_raised(self) -> bool:
        """Whether it did not clear."""
        return self.level != LEVELS[OK]

    def as_json(self) -> dict[str, Any]:
        """A row of alarms.jsonl."""
        return asdict(self)


class AlarmFailure(HookError):
    """An alarm of the user's own failed in a step."""

    def __init__(self, message: str, events: Sequence[Event]) -> None:
        """`events` are those of the other alarms."""
        super().__init__(message)
        self.events = list(events)


class Monitor:
    """All alarms of a run. The same rows give the same events, whether or not the state was saved in between."""

    def __init__(
        self,
        alarms: Alarms,
        settings: Mapping[str, Any] | None = None,
        baseline: Mapping[str, float] | None = None,
        own: Sequence[Alarm] = (),
    ) -> None:
        """Watch with the built-in alarms, and with the user's `own` as `alarms.own.load_own` returns them.

        `settings` are the run's, flat ("optim.lr"), for the diagnosis and for P; `baseline` the base's metrics.
        """
        self._alarms = alarms
        self._settings = dict(settings or {})
        self.known: dict[str, Alarm] = {**ALARMS, **{alarm.name: alarm for alarm in own}}
        """By name, also those that are not enabled."""
        levels = {name: getattr(alarms, name) for name in ALARMS} | {alarm.name: alarm.levels for alarm in own}
        problems = self._settings.get("rollout.problems")
        self._contexts = {
            name: Context(levels_of, {}, dict(baseline or {}), problems)
            for name, levels_of in levels.items()
            if levels_of.enabled
        }
        self._gauges: dict[str, dict[str, Gauge]] = {name: {} for name in self._contexts}

    def update(self, step: int, metrics: Row, example: str | None = "") -> list[Event]:
        """Take in one step's metrics; `example` is a CoT of it for the diagnosis, None says that there is none.

        Returns what changed.

        Missing metrics are not judged. None stands for NaN or infinity. Steps may be far apart: patience counts rows.

        Raises `AlarmFailure` when an alarm of the user's own fails; all others have then judged the step.
        """
        events, failure = [], None
        for name, context in self._contexts.items():
            before = self.level(name)
            context.step = step
            try:
                readings = list(self.known[name].rule(metrics, context))
            except HookError as error:
                failure = failure or error
                continue
            self._move(name, step, readings, context.levels)
            after = self.level(name)
            if after != before:
                events.append(self._event(name, step, readings, before, example))
        if failure:
            raise AlarmFailure(str(failure), events) from failure
        return events

    def level(self, name: str) -> int:
        """0, 1 (warn) or 2 (critical)."""
        return max((gauge.level for gauge in self._gauges[name].values()), default=OK)

    def onsets(self, level: int = OK) -> set[int]:
        """Steps at which what is raised began: of gauges at `level` or above, by default also of those on their way."""
        gauges = [gauge for of_one in self._gauges.values() for gauge in of_one.values()]
        return {gauge.since for gauge in gauges if gauge.is_raised and gauge.level >= level}

    def scalars(self) -> dict[str, float]:
        """`alarm/<name>`: the level of every alarm that is enabled."""
        return {f"alarm/{name}": float(self.level(name)) for name in self._gauges}

    def judged(self) -> set[str]:
        """Alarms that have had a metric to look at."""
        return {name for name, gauges in self._gauges.items() if gauges}

    def state_dict(self) -> dict[str, Any]:
        """All that changes from row to row, as JSON."""
        return {
            name: {
                "memory": dict(context.memory),
                "gauges": {measure: asdict(gauge) for measure, gauge in self._gauges[name].items()},
            }
            for name, context in self._contexts.items()
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a `state_dict`. Alarms that were not enabled when it was saved start again."""
        for name, context in self._contexts.items():
            saved = state.get(name, {"memory": {}, "gauges": {}})
            context.memory = dict(saved["memory"])
            self._gauges[name] = {measure: Gauge(**values) for measure, values in saved["gauges"].items()}

    def _move(self, name: str, step: int, readings: Iterable[Reading], levels: Levels) -> None:
        alarms, gauges = self._alarms, self._gauges[name]
        for reading in readings:
            gauge = gauges.setdefault(reading.measure, Gauge())
            gauge.update(step, reading, levels.patience, alarms.release, alarms.clear_rows)

    def _event(self, name: str, step: int, readings: list[Reading], before: int, example: str | None) -> Event:
        """Explained by the readings at the alarm's new level."""
        level, gauges = self.level(name), self._gauges[name]
        telling = [reading for reading in readings if gauges[reading.measure].level == level]
        raised = [gauge.since for gauge in gauges.values() if gauge.level == level]
        since = min(raised) if level >= before else step
        values = {
            key if "/" in key or not reading.what else f"{reading.what}.{key}": value
            for reading in telling
            for key, value in reading.seen.items()
        }
        if level < before:
            text = eased(name, step, LEVELS[before], LEVELS[level])
        else:
            text = diagnose(self.known[name], telling, step, since, example, self._settings)
        return Event(name, LEVELS[level], step, since, values, text)


def healthy_until(onset: int) -> int:
    """The last step whose checkpoint has nothing of what was seen from step `onset` on.

    A step's metrics are of the policy that sampled, which is the one saved a step before.
    """
    return max(0, onset - 2)
