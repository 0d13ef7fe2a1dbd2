"""Within runs, over their steps: where the score stops rising, and what choosing a checkpoint by its score is worth.

Shapes: R runs, S steps. A run's checkpoints are compared with each other, so that what differs between runs drops out;
standard errors are over the runs, which is what clustering by run means for such differences.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from markov_cot.analysis.sweep_effects import t_interval
from markov_cot.analysis.sweep_table import SweepTable
from markov_cot.evaluation.statistics import holm, sign_test_p_value


@dataclass(frozen=True, slots=True)
class Difference:
    """Over the runs: a checkpoint less the final one."""

    n: int
    mean: float
    stderr: float | None
    low: float | None
    high: float | None
    above: int
    """Runs in which it is above the final one."""
    below: int

    @property
    def is_told_apart(self) -> bool:
        """Whether the interval leaves 0 out."""
        return self.low is not None and self.high is not None and not self.low <= 0 <= self.high


@dataclass(frozen=True, slots=True)
class StepRow:
    """A step."""

    step: str
    mean: float
    """Of the runs that have it."""
    difference: Difference
    p_holm: float
    """Exact sign test over the runs, adjusted for the number of steps."""


@dataclass(frozen=True, slots=True)
class Plateau:
    """Over the steps."""

    rows: tuple[StepRow, ...]
    runs: int
    """Runs that have the last step; others have no final score here."""
    flat_from: str
    """The earliest step from which on no interval leaves 0 out."""
    peak: str
    """Step with the best difference."""
    best: Difference
    """Each run's own best checkpoint less its final one: chosen by the very score that is compared."""
    chosen: Difference | None
    """The step that is best in all other runs less the final one: chosen without the run. None unless all runs have
    all steps."""


def plateau(table: SweepTable) -> Plateau | None:
    """Return how checkpoints compare with the final one; None without steps, or where fewer than two runs have it."""
    if table.step is None:
        return None
    y_RS = np.full((len(table.runs), len(table.step.levels)), np.nan)
    y_RS[table.run_N, table.step.codes] = table.y_N
    y_RS = y_RS[np.isfinite(y_RS[:, -1])]
    if len(y_RS) < 2:
        return None
    gains_RS = y_RS - y_RS[:, -1:]
    columns = [column[np.isfinite(column)] for column in gains_RS.T]
    differences = [difference(column) if len(column) else None for column in columns]
    p_values = holm({str(i): sign_test_p_value(each.tolist()) for i, each in enumerate(columns[:-1]) if len(each)})
    rows = tuple(
        StepRow(step, float(np.nanmean(y_RS[:, i])), each, p_values.get(str(i), 1.0))
        for i, (step, each) in enumerate(zip(table.step.levels, differences, strict=True))
        if each
    )
    best = np.nanmax(table.sign * gains_RS, axis=1) * table.sign
    peak = max(rows, key=lambda row: table.sign * row.difference.mean)
    chosen = _chosen_by_others(gains_RS, table.sign)
    return Plateau(rows, len(y_RS), _flat_from(rows), peak.step, difference(best), chosen)


def difference(values_R: np.ndarray) -> Difference:
    """Return the mean over runs with its standard error, sd / sqrt(R) with ddof 1, and Student's interval."""
    n, mean = len(values_R), float(values_R.mean())
    above, below = int((values_R > 0).sum()), int((values_R < 0).sum())
    if n < 2:
        return Difference(n, mean, None, None, None, above, below)
    stderr = float(values_R.std(ddof=1)) / math.sqrt(n)
    return Difference(n, mean, stderr, *t_interval(mean, stderr, n - 1), above, below)


def _flat_from(rows: tuple[StepRow, ...]) -> str:
    flat = rows[-1].step
    for row in reversed(rows[:-1]):
        if row.difference.is_told_apart:
            break
        flat = row.step
    return flat


def _chosen_by_others(gains_RS: np.ndarray, sign: int) -> Difference | None:
    if np.isnan(gains_RS).any():
        return None
    others_RS = sign * (gains_RS.sum(axis=0) - gains_RS)
    return difference(gains_RS[np.arange(len(gains_RS)), others_RS.argmax(axis=1)])
