"""A level with patience and hysteresis."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

OK, WARN, CRITICAL = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Reading:
    """What a rule makes of one row: a number that is worse the higher it is, and the levels it is held against."""

    measure: str
    """Which gauge it moves."""
    kind: str
    """Which text of the diagnosis it calls for."""
    value: float
    warn: float
    critical: float
    hard: float = math.inf
    seen: Mapping[str, float] = field(default_factory=dict)
    """The metrics behind it, for the diagnosis."""
    what: str = ""
    """Name of a dataset or of metrics, for the diagnosis."""


@dataclass(slots=True)
class Gauge:
    """Where one measure stands. Counts are of rows in a row."""

    level: int = OK
    since: int = 0
    """Step of the first row of the present excursion above `warn`."""
    warn_rows: int = 0
    critical_rows: int = 0
    calm_rows: int = 0
    """Below the share of the level that `release` names."""

    @property
    def is_raised(self) -> bool:
        """Whether it is at a level, or on its way to one."""
        return bool(self.level or self.warn_rows)

    def update(self, step: int, reading: Reading, patience: int, release: float, clear_rows: int) -> None:
        """Takes in one row."""
        value = reading.value
        if not self.warn_rows and not self.level and value >= reading.warn:
            self.since = step
        self.warn_rows = self.warn_rows + 1 if value >= reading.warn else 0
        self.critical_rows = self.critical_rows + 1 if value >= reading.critical else 0
        if value >= reading.hard or self.critical_rows >= patience:
            self.level = CRITICAL
        elif self.warn_rows >= patience and self.level == OK:
            self.level = WARN
        if self.level:
            self._ease(reading, release, clear_rows)

    def _ease(self, reading: Reading, release: float, clear_rows: int) -> None:
        bound = reading.critical if self.level == CRITICAL else reading.warn
        self.calm_rows = self.calm_rows + 1 if reading.value < release * bound else 0
        if self.calm_rows >= clear_rows:
            self.calm_rows = 0
            self.level = OK if reading.value < release * reading.warn else WARN
