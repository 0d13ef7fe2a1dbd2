"""What every reader of a log gives: its rows in order, by this project's keys."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

FARTHEST = 2**63
"""Steps."""
Metrics = dict[str, float | None]
"""By this project's keys; None stands for NaN or infinity."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One row of a log."""

    step: int
    metrics: Metrics
    example: str = ""
    """A CoT of it, where the log has one."""


class Log(Protocol):
    """A log that is being read. All but `path` is known once `entries` has come to its end."""

    path: Path
    settings: dict[str, Any] | None
    """The run's, flat, by this project's names, where the log tells them; None where a config beside it may."""
    torn: bool
    """Whether the last line was cut off in the middle, as in a run that is still writing. It is left out."""

    def entries(self) -> Iterator[Entry]:
        """Yield the rows in order. Raises `UserError`, with the line's number, for what is no row of a log."""


def is_number(value: Any) -> bool:
    """Whether a value of a row is a metric: a number or null, and no truth value."""
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def as_float(value: Any) -> float | None:
    """Return a metric as a float; None for null and for an integer beyond all floats."""
    try:
        return None if value is None else float(value)
    except OverflowError:
        return None


def whole_number(value: Any) -> int | None:
    """Return a step as an int; None where it is no whole number, or one that no run comes to."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value // 1:
        return None
    return int(value) if abs(value) < FARTHEST else None


def averaged(rows: Iterable[Mapping[str, float | None]]) -> Metrics:
    """Return the mean of each key over the rows that have it; None where one of them has None."""
    values: dict[str, list[float | None]] = {}
    for row in rows:
        for key, value in row.items():
            values.setdefault(key, []).append(value)
    return {key: _mean(each) for key, each in values.items()}


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if len(known) == len(values) else None
