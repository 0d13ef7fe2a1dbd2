"""What a sweep's grid can tell apart: balance, combinations that were run, values that always occur together.

Shapes: R runs, K columns of a design matrix.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from markov_cot.analysis.sweep_factors import NONE, Factor
from markov_cot.analysis.sweep_table import SweepTable


@dataclass(frozen=True, slots=True)
class Coverage:
    """Which combinations of the settings were run."""

    possible: int
    run: int
    fewest: int
    most: int
    """Runs of a combination that was run."""
    is_balanced: bool
    """Whether each combination of settings (and step) has as many rows as any other."""


@dataclass(frozen=True, slots=True)
class Confound:
    """Values that always occur together."""

    values: tuple[tuple[str, str], ...]
    """Column and value."""
    runs: int

    def __str__(self) -> str:
        return " and ".join(f"{column}={value}" for column, value in self.values)


def coverage(table: SweepTable) -> Coverage:
    """Return how many of the combinations have runs, and whether the grid is balanced."""
    cells = Counter(zip(*(each.codes.tolist() for each in table.settings), strict=True))
    possible = int(np.prod([len(each.levels) for each in table.settings]))
    rows = Counter(zip(*(each.codes.tolist() for each in table.row_factors), strict=True))
    with_steps = possible * (len(table.step.levels) if table.step else 1)
    is_balanced = len(rows) == with_steps and len(set(rows.values())) == 1
    return Coverage(possible, len(cells), min(cells.values()), max(cells.values()), is_balanced)


def confounds(table: SweepTable) -> list[Confound]:
    """Return the groups of values of different columns that the same runs have, two runs or more, the largest first.

    No analysis can tell such values apart.
    """
    groups: dict[frozenset[int], list[tuple[str, str]]] = {}
    for factor in table.described:
        for code, level in enumerate(factor.levels):
            runs = frozenset(np.flatnonzero(factor.codes == code).tolist())
            groups.setdefault(runs, []).append((factor.name, level))
    found = [Confound(tuple(values), len(runs)) for runs, values in groups.items() if len(values) > 1 and len(runs) > 1]
    return sorted(found, key=lambda each: -each.runs)


def indicators(factor: Factor, reference: int = 0) -> np.ndarray:
    """Return [n, levels - 1]: 1 where a row has the level, without the reference's column."""
    columns: np.ndarray = np.delete(np.eye(len(factor.levels))[factor.codes], reference, axis=1)
    return columns


def products(a: Factor, b: Factor) -> np.ndarray:
    """Return the columns of an interaction, products of the two's indicators, without those that are 0 throughout."""
    columns: np.ndarray = (indicators(a)[:, :, None] * indicators(b)[:, None, :]).reshape(len(a.codes), -1)
    return columns[:, columns.any(axis=0)]


def design(factors: Sequence[Factor], n: int) -> np.ndarray:
    """Return a constant and the factors' indicators, [n, K]."""
    return np.hstack([np.ones((n, 1)), *(indicators(each) for each in factors)])


def pairs(factors: Sequence[Factor]) -> list[tuple[Factor, Factor]]:
    """Return every two of the factors."""
    return list(itertools.combinations(factors, 2))


def is_unknown(confound: Confound) -> bool:
    """Return whether it is about cells that are empty together, which says nothing of values."""
    return all(value == NONE for _, value in confound.values)
