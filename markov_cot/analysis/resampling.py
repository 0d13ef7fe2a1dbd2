"""Bootstrap of units that are drawn with replacement, as many as there are.

Shapes: R resamples, U distinct units.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

Unit = Literal["questions", "votes"]
UNITS: tuple[Unit, ...] = get_args(Unit)
_CELLS = 4_000_000
"""Numbers held at a time, so that memory does not grow with the number of resamples."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """What intervals are made of."""

    unit: Unit = "questions"
    resamples: int = 10_000
    level: float = 95.0
    """Percent."""
    seed: int = 0

    def draws(self, copies_U: np.ndarray, width: int = 1) -> Iterator[np.ndarray]:
        """Yield blocks [R, U] of how often each unit is drawn, where it is there in so many copies.

        `width` is how many numbers the caller makes of each resample; blocks are smaller where they are many.
        """
        generator, total = np.random.default_rng(self.seed), int(copies_U.sum())
        block = max(1, _CELLS // max(len(copies_U), width))
        for done in range(0, self.resamples, block):
            yield generator.multinomial(total, copies_U / total, min(block, self.resamples - done))

    def interval(self, values_R: np.ndarray) -> tuple[float, float]:
        """Return the percentile interval of resampled values, some of which may be infinite.

        Its ends are values themselves, the nearest outside the quantiles.
        """
        ordered, tail = np.sort(values_R), (1 - self.level / 100) / 2 * (len(values_R) - 1)
        last = len(ordered) - 1
        return float(ordered[math.floor(tail)]), float(ordered[last - math.floor(tail)])


def ratio_stderr(won_U: np.ndarray, votes_U: np.ndarray, copies_U: np.ndarray) -> float | None:
    """Return the standard error of sum(won) / sum(votes), the units being independent; None for one unit.

    sqrt(n / (n - 1) * sum_u (won_u - p votes_u)^2) / sum(votes), n the number of units: linearisation of a ratio
    (Cochran 1977, Sampling Techniques, chapter 6). With one vote a unit it is the sample standard deviation / sqrt(n).
    """
    n, total = int(copies_U.sum()), float((copies_U * votes_U).sum())
    if n == 1:
        return None
    share = float((copies_U * won_U).sum()) / total
    squares = float((copies_U * (won_U - share * votes_U) ** 2).sum())
    return math.sqrt(n / (n - 1) * squares) / total
