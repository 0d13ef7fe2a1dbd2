"""The five families of perturbation of a CoT, over its units: characters, as published, or tokens.

Source: Viteri et al., Markovian Transformers for Informative Language Modeling (arXiv 2404.18988), and its code. There
every severity has draws of its own; here a CoT's draws in a family are made once, so that whatever a severity changes,
every higher one changes too, and a curve over severities is of one growing change.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from markov_cot.utils.rng import Stream, generator

FAMILIES = ("char_replace", "delete", "digit_replace", "truncate_front", "truncate_back")
REMOVALS = ("delete", "truncate_front", "truncate_back")
SEVERITIES = (20, 40, 60, 80, 100)
"""Percent."""

Unit = TypeVar("Unit")
Pool = Callable[[str, Unit], Sequence[Unit]]
"""(family, unit) -> what the unit may be replaced by; empty where it stays."""


@dataclass(frozen=True)
class Draws:
    """What is random in a CoT's perturbations by one family. Shapes: n units."""

    rank_n: np.ndarray
    """In [0, 1): a unit is changed at severities above its rank."""
    choice_n: np.ndarray
    """In [0, 1): which of its pool a unit is replaced by."""


def draws(seed: int, item: int, family: str, units: int) -> Draws:
    """Return the draws for the CoT of an item, the same whatever else is perturbed.

    `attempt` of the generator is the family, so that no two families share numbers.
    """
    numbers = generator(seed, Stream.PERTURBATION, item, FAMILIES.index(family)).random((units, 2))
    return Draws(numbers[:, 0], numbers[:, 1])


def perturb(family: str, units: Sequence[Unit], severity: int, drawn: Draws, pool: Pool[Unit]) -> list[Unit]:
    """Return n units changed by a family at a severity p in percent; at 0 they are as they were.

    * delete: floor(p n / 100) units are taken out, those of the lowest ranks.
    * truncate_front, truncate_back: floor((100 - p) n / 100) units are kept, the last or the first ones.
    * char_replace, digit_replace: each unit that has a pool is replaced with probability p / 100 by one drawn from
      it uniformly, which may be the unit itself (an effective 61/62 of characters and 9/10 of digits change).
    """
    n = len(units)
    if family == "delete":
        gone = set(np.argsort(drawn.rank_n, kind="stable")[: severity * n // 100].tolist())
        return [unit for i, unit in enumerate(units) if i not in gone]
    if family in REMOVALS:
        kept = (100 - severity) * n // 100
        return list(units[n - kept :] if family == "truncate_front" else units[:kept])
    return [
        _replaced(unit, pool(family, unit), choice) if 100 * rank < severity else unit
        for unit, rank, choice in zip(units, drawn.rank_n.tolist(), drawn.choice_n.tolist(), strict=True)
    ]


def _replaced(unit: Unit, pool: Sequence[Unit], choice: float) -> Unit:
    return pool[int(choice * len(pool))] if pool else unit
