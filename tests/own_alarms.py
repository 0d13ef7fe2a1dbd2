"""An alarm of one's own, for tests/process_cases.py."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from markov_cot.alarms.alarm import Alarm, Levels, Reading, Text, number


def _growing(row: Mapping[str, float], context: Any) -> Iterator[Reading]:
    """Steps with an entropy, in a row."""
    if (entropy := number(row, "policy/entropy")) is not None:
        context.memory["rows"] = rows = context.memory.get("rows", 0.0) + 1
        yield Reading("rows", "many", rows, context.levels.warn, context.levels.critical, seen={"entropy": entropy})


patience = Alarm(
    name="patience",
    levels=Levels(warn=2, critical=3, patience=1),
    rule=_growing,
    texts={"many": Text("The entropy is {entropy:.2f} nats", "It took long.", ("Lower <optim.lr>.",))},
)
