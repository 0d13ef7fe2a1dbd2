"""Rank correlations of few values, whose ties and whose chance level are exact."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np

from markov_cot.evaluation.statistics import rank_correlation

FEWEST = 3
"""Of two values each, the correlation is 1 or -1 whatever they are."""
MOST_EXACT = 8
"""Values whose permutations (40,320) are all gone through; of more, `DRAWN` are drawn."""
DRAWN = 10_000
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Correlation:
    """Spearman's rho of pairs of values."""

    n: int
    rho: float | None
    """None where one side does not vary."""
    p_value: float | None
    """Two-sided: how often pairs put together at random have so large a rho, or one as far below 0."""


def correlate(x: Sequence[float], y: Sequence[float], seed: int = 0) -> Correlation:
    """Return Spearman's rho, ties at their mean rank, and a permutation test of no association.

    The test is exact for up to `MOST_EXACT` pairs; of more it draws `DRAWN` permutations, (k + 1) / (DRAWN + 1).

    >>> correlate([1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 3.0, 5.0])  # 2 of the 24 orders are as far from 0
    Correlation(n=4, rho=1.0, p_value=0.08333333333333333)
    """
    left, right = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    n, rho = len(left), rank_correlation(left, right)
    if rho is None:
        return Correlation(n, None, None)
    a, b = _standardised(left), _standardised(right)
    if n <= MOST_EXACT:
        orders = np.array(list(permutations(range(n))))
        return Correlation(n, rho, float((np.abs(b[orders] @ a) >= abs(rho) - _ROUNDING).mean()))
    drawn = np.random.default_rng(seed).permuted(np.tile(b, (DRAWN, 1)), axis=1)
    as_far = int((np.abs(drawn @ a) >= abs(rho) - _ROUNDING).sum())
    return Correlation(n, rho, (as_far + 1) / (DRAWN + 1))


def correlation_json(found: Correlation) -> dict[str, float | None]:
    """Return a correlation as the documents have it."""
    return {"n": found.n, "rho": found.rho, "p": found.p_value}


def _standardised(values: np.ndarray) -> np.ndarray:
    """Ranks of mean 0 and length 1."""
    from scipy.stats import rankdata  # takes a second to import

    ranks = rankdata(values) - (len(values) + 1) / 2
    scaled: np.ndarray = ranks / np.linalg.norm(ranks)
    return scaled
