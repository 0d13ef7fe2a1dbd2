"""Settings and steps as levels, whatever they are written like."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from markov_cot.analysis.sweep_rows import number

NONE = "(none)"
"""Level of rows whose cell is empty."""


@dataclass(frozen=True)
class Factor:
    """A setting, or the step, as levels in their order: numbers by size, then words."""

    name: str
    levels: tuple[str, ...]
    codes: np.ndarray
    """[N] or [R]: each one's level."""

    def at(self, indices: np.ndarray) -> Factor:
        """Return the factor of some of the rows."""
        return replace(self, codes=self.codes[indices])


def make_factor(name: str, cells: Sequence[str]) -> Factor:
    """Return texts as levels; numbers that are written differently are one, and "" is a level of its own.

    >>> make_factor("lr", ["1e-5", "0.00001", "default", "1e-6"]).levels
    ('1e-06', '1e-05', 'default')
    """
    labels = [label_of(cell) for cell in cells]
    levels = sorted(set(labels), key=_order)
    place = {level: i for i, level in enumerate(levels)}
    return Factor(name, tuple(levels), np.array([place[label] for label in labels]))


def label_of(cell: str) -> str:
    """Return the level that a cell is.

    >>> label_of("0.00001"), label_of("default"), label_of("")
    ('1e-05', 'default', '(none)')
    """
    value = number(cell)
    return (cell or NONE) if value is None else f"{value:.12g}"


def _order(label: str) -> tuple[int, float, str]:
    value = number(label)
    return (1, 0.0, label) if value is None else (0, value, "")


def grouped(factor: Factor, most: int) -> Factor:
    """Return a factor of many numbers as one of up to `most` groups with about as many rows or runs each.

    A level belongs to the part of all of them that its middle one is in; those without a number stay by themselves.
    """
    named = [i for i, label in enumerate(factor.levels) if label != NONE]
    counts = np.bincount(factor.codes, minlength=len(factor.levels))[named]
    middle = (np.cumsum(counts) - counts / 2) / counts.sum()
    part_of = dict(zip(named, (most * middle).astype(int).tolist(), strict=True))
    labels = {}
    for part in sorted(set(part_of.values())):
        ends = [factor.levels[i] for i in named if part_of[i] == part]
        labels[part] = ends[0] if len(ends) == 1 else f"{ends[0]} to {ends[-1]}"
    names = [labels[part_of[i]] if i in part_of else NONE for i in range(len(factor.levels))]
    levels = tuple(dict.fromkeys(names))
    return Factor(factor.name, levels, np.array([levels.index(name) for name in names])[factor.codes])


def says(factor: Factor, other: Factor) -> bool:
    """Return whether a run's level of the one says its level of the other."""
    return len(set(zip(factor.codes.tolist(), other.codes.tolist(), strict=True))) == len(factor.levels)
