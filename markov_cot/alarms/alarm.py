"""An alarm: one object that holds its levels, its rule, and what it says.

Units: nats; shares are between 0 and 1. A metric that is not there is not judged, and one that is not finite is left to
the alarm `non_finite`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from markov_cot.alarms.changes import Changes, lower_learning_rate
from markov_cot.alarms.gauge import Reading
from markov_cot.alarms.smoothing import Memory, start
from markov_cot.config.alarms import HardLevels, Levels

__all__ = ["Alarm", "Context", "HardLevels", "Levels", "Reading", "Row", "Rule", "Text", "number"]

HUGE = 1e100

Row = Mapping[str, float | int | None]
"""Metrics of one step; None stands for NaN or infinity."""


@dataclass(slots=True)
class Context:
    """What a rule has besides the row: its settings, its memory, and what is known of the run."""

    levels: Any
    """The alarm's group of settings."""
    memory: Memory = field(default_factory=dict)
    """Numbers that the rule keeps from row to row; saved with the run."""
    baseline: Mapping[str, float] = field(default_factory=dict)
    """Metrics of the untrained base; where one is missing, the first rows stand for it."""
    problems: int | None = None
    """P: groups a step."""
    step: int = 0
    """Of the row."""

    def base(self, key: str, value: float) -> float:
        """Return the base's value of a metric that is `value` now."""
        return self.baseline[key] if key in self.baseline else start(self.memory, key, value)


Rule = Callable[[Row, Context], Iterable[Reading]]
"""What it makes of one row; usually a generator."""

Remedy = Callable[[Mapping[str, Any]], Changes]
"""From a run's settings, flat, to those to continue with once the alarm was critical."""


class Text(NamedTuple):
    """What an alarm says. `seen` holds {metrics}, `cause` and `changes` hold <settings>; all are filled in."""

    seen: str
    cause: str
    changes: tuple[str, ...]
    """Sentences that other texts may have too; each is said once."""


@dataclass(frozen=True, slots=True)
class Alarm:
    """Something that is watched while training.

    Example:
        >>> def judge(row, context):
        ...     share = number(row, "cot/answer_in_cot")
        ...     if share is not None:
        ...         yield Reading("share", "high", share, context.levels.warn, context.levels.critical)
        >>> text = Text("Most CoTs hold the answer", "The answer is copied.", ("Raise <algorithm.kl_weight>.",))
        >>> Alarm("copied", Levels(warn=0.8, critical=0.95, patience=5), judge, {"high": text}).name
        'copied'
    """

    name: str
    """Logged as `alarm/<name>`."""
    levels: Levels
    """Its levels and patience. A built-in alarm's are settings, `alarms.<name>`, and these their defaults."""
    rule: Rule
    texts: Mapping[str, Text]
    """By the `kind` of reading."""
    remedy: Remedy = lower_learning_rate
    reads: tuple[str, ...] = ()
    """Metrics that it looks at, of which one is enough; what it needs together is joined by " and "."""


def number(row: Row, key: str) -> float | None:
    """Return the metric, if it is there and finite; cut where its square would overflow."""
    value = row.get(key)
    return max(-HUGE, min(HUGE, float(value))) if value is not None and math.isfinite(value) else None
