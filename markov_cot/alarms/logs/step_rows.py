"""JSONL with the step in each row: this project's `log.jsonl`, those of other trainers, and tables of completions.

Rows of one step that follow each other are one entry: prime-rl writes several, and a table of completions has a row a
CoT. verl's file logger nests the metrics under "data".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

from markov_cot.alarms.logs.cot_texts import MEASURES, Cot, CotTexts, cots_in
from markov_cot.alarms.logs.entry import Entry, averaged, whole_number
from markov_cot.alarms.logs.json_lines import JsonLines, Row, lenient_rows
from markov_cot.alarms.logs.names import STEPS, translate
from markov_cot.utils.layout import LOG, SAMPLES

NESTED = "data"
CLOCKED = "time"
"""Rows of prime-rl whose step is null are of a time."""


@dataclass(slots=True)
class StepRows:
    """Such a log. CoTs of a run's own, which are in samples.jsonl, are measured where its log has no such measure."""

    path: Path
    settings: dict[str, Any] | None = None
    torn: bool = False
    _texts: CotTexts = field(default_factory=CotTexts)

    def entries(self) -> Iterator[Entry]:
        """Yield an entry a step."""
        samples = read_samples(self.path.with_name(SAMPLES)) if self.path.name == LOG else {}
        missing = self._measures_missing() if samples else frozenset()
        for step, group in groupby(self._steps(), key=lambda each: each[0]):
            rows = [row for _, row in group]
            cots = [cot for row in rows for cot in cots_in(row)] or samples.get(step, [])
            metrics = averaged(translate(row) for row in rows)
            for key, value in self._texts.take(cots).items():
                if not samples or key in missing:
                    metrics.setdefault(key, value)
            yield Entry(step, metrics, next((cot.text for cot in cots), ""))

    def _steps(self) -> Iterator[tuple[int, Row]]:
        lines = JsonLines(self.path)
        for number, row in lines.rows():
            key = next((name for name in STEPS if name in row), None)
            if key is None:
                if number == 1:
                    continue  # a header
                raise lines.fault(number, f'has neither "{STEPS[0]}" nor "Training Metrics", so it is no row of a log')
            if row[key] is None and CLOCKED in row:
                continue
            step = whole_number(row[key])
            if step is None:
                raise lines.fault(number, f'"{key}" should be a whole number')
            nested = row.get(NESTED)
            yield step, nested if isinstance(nested, dict) else row
        self.torn = lines.torn

    def _measures_missing(self) -> frozenset[str]:
        """What no row of the log has, as in one of an earlier version."""
        there = {key for row in lenient_rows(self.path) for key in row}
        return frozenset(MEASURES) - there


def read_samples(path: Path) -> dict[int, list[Cot]]:
    """Return a run's sample CoTs by their step, from its samples.jsonl; broken rows go unused."""
    samples: dict[int, list[Cot]] = {}
    for row in lenient_rows(path):
        step = whole_number(row.get("step"))
        if step is not None and (cots := cots_in(row)):
            samples.setdefault(step, []).extend(cots)
    return samples
