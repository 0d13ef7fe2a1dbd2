"""Ratings of models that play each other: the Bradley-Terry model, fitted by maximum likelihood without a penalty.

P(i beats j) = 1 / (1 + 10^((r_j - r_i) / 400)), a tie being half a win for each (Bradley and Terry 1952, Biometrika 39;
scale and baseline as in lmarena/arena-hard-auto v0.1).

Shapes: R resamples, M models, U units, P pairs of models. theta is in nats: r = 1000 + 400 / ln 10 * theta.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array
from scipy.special import expit

from markov_cot.analysis.resampling import Sampling
from markov_cot.analysis.tally import Games

SCALE, START = 400 / math.log(10), 1000.0
_TOLERANCE = 1e-10
"""Nats."""
_MOST_STEPS = 1000


@dataclass(frozen=True, slots=True)
class Rating:
    """A model's rating, with its interval, which is NaN for one unit.

    Infinite where all votes that link the model to the anchor are won, or all lost; NaN where none do.
    """

    value: float
    low: float
    high: float
    undetermined: int
    """Resamples in which it is NaN, which the interval leaves out."""


def ratings(games: Games, count: int, anchor: int | None, sampling: Sampling) -> list[Rating]:
    """Return the rating of each of `count` models, with that of the anchor 1000; without one, their mean is 1000.

    Units are resampled jointly, over all models.
    """
    pair_N, pairs_P = _numbered_pairs(games)
    rows, unit, copies_U = _distinct_units(games, pair_N)
    votes = _Votes(pairs_P, count, games.only(rows), pair_N[rows], unit, len(copies_U))
    found_M = _ratings(votes.wins(copies_U[None]), anchor)[0]
    resampled = np.empty((0, count))
    if copies_U.sum() > 1:
        blocks = sampling.draws(copies_U, count * count)
        resampled = np.concatenate([_ratings(votes.wins(drawn), anchor) for drawn in blocks])
    made = []
    for model in range(count):
        defined = resampled[~np.isnan(resampled[:, model]), model]
        low, high = sampling.interval(defined) if len(defined) else (math.nan, math.nan)
        made.append(Rating(float(found_M[model]), low, high, len(resampled) - len(defined)))
    return made


def expected_share(rating: float, other: float = START) -> float:
    """Return the share of votes that a model wins of another, by their ratings.

    >>> expected_share(1000.0), round(expected_share(1400.0), 4)
    (0.5, 0.9091)
    """
    return float(expit((rating - other) / SCALE))


def log_odds(wins_RMM: np.ndarray, anchor: int) -> np.ndarray:
    """Return theta [R, M], with that of the anchor 0, where row models won so many votes from column models.

    It maximises sum_ij wins_ij ln sigma(theta_i - theta_j). The maximum is finite among models that won votes links to
    the anchor in both directions (Ford 1957, American Mathematical Monthly 64). A model that they link in one
    direction alone gets +inf or -inf, one that they do not link NaN.
    """
    above_RM, below_RM = _links(wins_RMM, anchor)
    linked_RM = above_RM & below_RM
    theta_RM = _maximum(np.where(linked_RM[:, :, None] & linked_RM[:, None, :], wins_RMM, 0.0), linked_RM, anchor)
    theta_RM[above_RM & ~below_RM] = math.inf
    theta_RM[below_RM & ~above_RM] = -math.inf
    theta_RM[~above_RM & ~below_RM] = math.nan
    return theta_RM


def _ratings(wins_RMM: np.ndarray, anchor: int | None) -> np.ndarray:
    if anchor is not None:
        theta_RM = log_odds(wins_RMM, anchor)
    else:
        theta_RM = log_odds(wins_RMM, 0)
        theta_RM[~np.isfinite(theta_RM).all(1)] = math.nan
        theta_RM -= theta_RM.mean(1, keepdims=True)
    return theta_RM * SCALE + START


def _links(wins_RMM: np.ndarray, anchor: int) -> tuple[np.ndarray, np.ndarray]:
    """Who won from the anchor, or from one who did, and so on; and from whom the anchor won likewise. Both [R, M]."""
    count = wins_RMM.shape[-1]
    reach_RMM = ((wins_RMM > 0) | np.eye(count, dtype=bool)).astype(np.float32)
    for _ in range((count - 1).bit_length()):
        reach_RMM = (reach_RMM @ reach_RMM > 0).astype(np.float32)
    return reach_RMM[:, :, anchor] > 0, reach_RMM[:, anchor, :] > 0


def _maximum(wins_RMM: np.ndarray, linked_RM: np.ndarray, anchor: int) -> np.ndarray:
    """Newton's method, whose steps are damped by ln(1 + d) / d, d the range of a step.

    So damped it converges from anywhere (Sun and Tran-Dinh 2019, Mathematical Programming 178, for functions like the
    logistic loss).
    """
    losses_RMM = wins_RMM.swapaxes(1, 2)
    fixed_RM = ~linked_RM
    fixed_RM[:, anchor] = True
    theta_RM = np.zeros(wins_RMM.shape[:2])
    for _ in range(_MOST_STEPS):
        p_RMM = expit(theta_RM[:, :, None] - theta_RM[:, None, :])
        q_RMM = p_RMM.swapaxes(1, 2)
        gradient_RM = np.where(fixed_RM, 0.0, (wins_RMM * q_RMM - losses_RMM * p_RMM).sum(2))
        hessian_RMM = _hessian((wins_RMM + losses_RMM) * p_RMM * q_RMM, fixed_RM)
        step_RM = np.linalg.solve(hessian_RMM, gradient_RM[..., None])[..., 0]
        range_R1 = np.ptp(step_RM, axis=1, keepdims=True)
        theta_RM += step_RM * np.log1p(range_R1) / np.maximum(range_R1, np.finfo(np.float64).tiny)
        if range_R1.max() < _TOLERANCE:
            return theta_RM
    raise AssertionError("the maximum is finite, and was not reached")


def _hessian(curvature_RMM: np.ndarray, fixed_RM: np.ndarray) -> np.ndarray:
    """Minus the second derivatives, with rows and columns of the identity for what is not fitted."""
    diagonal = np.arange(curvature_RMM.shape[-1])
    hessian_RMM = -curvature_RMM
    hessian_RMM[:, diagonal, diagonal] += curvature_RMM.sum(2)
    hessian_RMM[fixed_RM[:, :, None] | fixed_RM[:, None, :]] = 0.0
    hessian_RMM[:, diagonal, diagonal] += fixed_RM
    return hessian_RMM


class _Votes:
    """What units hold, as a sparse matrix from how often they are drawn to the votes of each pair."""

    def __init__(
        self, pairs: np.ndarray, count: int, games: Games, pair_N: np.ndarray, unit_N: np.ndarray, units: int
    ) -> None:
        shape = (len(pairs), units)
        self._i, self._j, self._count = pairs[:, 0], pairs[:, 1], count
        self._won = csr_array((games.won, (pair_N, unit_N)), shape=shape)
        self._lost = csr_array((games.votes - games.won, (pair_N, unit_N)), shape=shape)

    def wins(self, drawn_RU: np.ndarray) -> np.ndarray:
        """Return [R, M, M]: the votes that row models won from column models."""
        wins_RMM = np.zeros((len(drawn_RU), self._count, self._count))
        wins_RMM[:, self._i, self._j] = (self._won @ drawn_RU.T).T
        wins_RMM[:, self._j, self._i] = (self._lost @ drawn_RU.T).T
        return wins_RMM


def _numbered_pairs(games: Games) -> tuple[np.ndarray, np.ndarray]:
    """The number of each row's pair [N], and the pairs [P, 2]; who is the baseline makes no difference."""
    pairs, number_N = np.unique(np.stack([games.i, games.j], 1), axis=0, return_inverse=True)
    return number_N.reshape(-1), pairs


def _distinct_units(games: Games, pair_N: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The rows of units of which no two hold the same votes, the number of each row's unit, and the units' copies."""
    order = np.lexsort((pair_N, games.unit))
    table = np.stack([pair_N, games.won, games.votes], 1)[order]
    starts = np.flatnonzero(np.diff(games.unit[order], prepend=-1))
    seen: dict[bytes, int] = {}
    rows, units, copies = [], [], list[int]()
    for start, end in zip(starts, [*starts[1:], len(order)], strict=True):
        unit = seen.setdefault(table[start:end].tobytes(), len(seen))
        if unit == len(copies):
            copies.append(0)
            rows.append(order[start:end])
            units.append(np.full(end - start, unit))
        copies[unit] += int(games.copies[order[start]])
    return np.concatenate(rows), np.concatenate(units), np.array(copies)
