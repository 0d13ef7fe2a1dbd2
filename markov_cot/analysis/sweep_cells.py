"""Two settings at a time: the mean of each combination, and where the effect of one depends on the other."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from markov_cot.analysis.sweep_design import pairs
from markov_cot.analysis.sweep_effects import run_scores
from markov_cot.analysis.sweep_factors import Factor
from markov_cot.analysis.sweep_table import SweepTable

UNEQUAL = 3.0
"""Standard deviations of cells that differ by more than this factor are called unequal."""


@dataclass(frozen=True, slots=True)
class Cell:
    """A combination's runs."""

    n: int
    mean: float | None
    """None where there is no run."""
    deviation: float | None
    """Standard deviation over the runs (ddof 1); None for fewer than two."""


@dataclass(frozen=True, slots=True)
class Corner:
    """The largest difference of differences in a table: what changing one setting does at one level of the other, less
    what it does at another."""

    levels: tuple[str, str]
    """Of the first setting; the difference is the second less the first."""
    at: tuple[str, str]
    """Levels of the other setting; the contrast is that difference at the first less at the second."""
    size: float
    stderr: float | None
    """From the deviation within cells, pooled over all of them; None where no cell has two runs."""


@dataclass(frozen=True, slots=True)
class CellTable:
    """Of two settings."""

    a: Factor
    b: Factor
    cells: tuple[tuple[Cell, ...], ...]
    """By level of a, then of b."""
    pooled: float | None
    """Standard deviation within cells."""
    corner: Corner | None
    is_unequal: bool
    """Whether the cells' own deviations are too different to be pooled without a word."""

    def best(self, sign: int) -> Mapping[str, str]:
        """Return the best level of a at each level of b."""
        found = {}
        for j, level in enumerate(self.b.levels):
            means = [(sign * mean, i) for i, row in enumerate(self.cells) if (mean := row[j].mean) is not None]
            if means:
                found[level] = self.a.levels[max(means)[1]]
        return found


def cell_tables(table: SweepTable) -> dict[tuple[str, str], CellTable]:
    """Return the tables of every two settings, by their names."""
    scores = run_scores(table)
    return {(a.name, b.name): cell_table(scores, a, b) for a, b in pairs(table.settings)}


def cell_table(scores_R: np.ndarray, a: Factor, b: Factor) -> CellTable:
    """Return the means of two settings' combinations, with the run as the unit."""
    groups = [[scores_R[(a.codes == i) & (b.codes == j)] for j in range(len(b.levels))] for i in range(len(a.levels))]
    cells = tuple(tuple(map(_cell, row)) for row in groups)
    deviations = [cell.deviation for row in cells for cell in row if cell.deviation is not None]
    pooled = within([each for row in groups for each in row])
    is_unequal = len(deviations) > 1 and max(deviations) > UNEQUAL * min(deviations)
    return CellTable(a, b, cells, pooled, _corner(cells, a, b, pooled), is_unequal)


def within(groups: list[np.ndarray]) -> float | None:
    """Return the standard deviation within groups: sqrt(sum of squares about their means / sum of (n - 1)).

    >>> within([np.array([1.0, 3.0]), np.array([5.0])])
    1.4142135623730951
    """
    df = sum(len(each) - 1 for each in groups if len(each))
    squares = sum(float(((each - each.mean()) ** 2).sum()) for each in groups if len(each))
    return math.sqrt(squares / df) if df else None


def _cell(scores: np.ndarray) -> Cell:
    if not len(scores):
        return Cell(0, None, None)
    return Cell(len(scores), float(scores.mean()), float(scores.std(ddof=1)) if len(scores) > 1 else None)


def _corner(cells: tuple[tuple[Cell, ...], ...], a: Factor, b: Factor, pooled: float | None) -> Corner | None:
    """Its standard error is pooled * sqrt(1/n_1 + 1/n_2 + 1/n_3 + 1/n_4)."""
    best: Corner | None = None
    for (i, k), (j, m) in itertools.product(
        itertools.combinations(range(len(a.levels)), 2), itertools.combinations(range(len(b.levels)), 2)
    ):
        four = [cells[k][j], cells[i][j], cells[k][m], cells[i][m]]
        means = [cell.mean for cell in four if cell.mean is not None]
        if len(means) < 4:
            continue
        size = (means[0] - means[1]) - (means[2] - means[3])
        if best is None or abs(size) > abs(best.size):
            stderr = None if pooled is None else pooled * math.sqrt(sum(1 / cell.n for cell in four))
            best = Corner((a.levels[i], a.levels[k]), (b.levels[j], b.levels[m]), size, stderr)
    return best
