"""How much of the metric's variance each setting, the step, and every two of them together account for.

Shapes: N rows, R runs, K columns of a design matrix (the last one is y), W resamples. Shares are of the rows' total sum
of squares about their mean.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from markov_cot.analysis.sweep_design import coverage, design, indicators, pairs, products
from markov_cot.analysis.sweep_effects import f_test, fit, run_scores
from markov_cot.analysis.sweep_factors import Factor
from markov_cot.analysis.sweep_table import SweepTable

RESAMPLES = 1_000
MOST_COLUMNS = 120
"""Of the interactions that get intervals, all together."""
_CELLS = 4_000_000
"""Numbers held at a time while resampling."""
_RIDGE = 1e-9
"""Relative to the rows: makes a level that a resample has lost, or a column that says the same as others, harmless."""
_NO_VARIANCE = 1e-12
"""Variance, relative to the sweep's, below which a resample's rows are all alike."""

Term = tuple[str, ...]
"""A factor's name, or two."""


@dataclass(frozen=True, slots=True)
class Share:
    """Of a term."""

    share: float
    low: float | None
    high: float | None
    """95 % percentile interval of the bootstrap over the runs; None where it was not made."""
    p_value: float | None = None
    """F test over the runs' scores; None for the step's, and where no run is left to judge by."""


@dataclass(frozen=True, slots=True)
class Shares:
    """Of the whole variance."""

    method: str
    """"anova" or "shapley"."""
    terms: Mapping[Term, Share]
    explained: float
    """By the factors without interactions: R^2 of the additive fit."""


def variance_shares(table: SweepTable, *, seed: int = 0, resamples: int = RESAMPLES) -> Shares:
    """Return each term's share of the variance, with intervals over the runs.

    Where the grid is balanced: the sums of squares of the orthogonal analysis of variance (Fisher). Otherwise each
    factor's Shapley share of the R^2 of the least-squares fit on all factors (Lindeman, Merenda & Gold 1980): its mean
    gain of R^2 over all orders in which factors can enter; an interaction has what R^2 gains by it over all factors.
    On a balanced grid the two are the same. Interactions of which more than half the combinations have a single run
    are left out of an unbalanced one.

    For the intervals whole runs are drawn with replacement, each with all its rows, and the Shapley shares of each
    resample taken. A resample is noisier than the sweep, which moves small shares up, so an interval is widened to the
    share where it leaves it out.
    """
    factors = table.row_factors
    is_balanced = coverage(table).is_balanced
    wanted = [(a, b) for a, b in pairs(factors) if is_balanced or _has_runs(table, a, b)]
    resampled = resampled_shares(table, factors, wanted, seed, resamples)
    if is_balanced:
        points = anova_shares(table.y_N, factors)
    else:
        mains: dict[Term, float] = {(each.name,): float(resampled[each.name,][0]) for each in factors}
        points = mains | _gains(table.y_N, factors, wanted)
    tests = _tests(table)
    terms = {}
    for term, point in points.items():
        low, high = _interval(resampled[term][1:], point) if term in resampled else (None, None)
        terms[term] = Share(point, low, high, tests.get(term))
    explained = sum(each.share for term, each in terms.items() if len(term) == 1)
    return Shares("anova" if is_balanced else "shapley", terms, explained)


def anova_shares(y_N: np.ndarray, factors: Sequence[Factor]) -> dict[Term, float]:
    """Return each factor's and each pair's share of the total sum of squares of a balanced grid.

    SS_A = sum over rows of (mean_a - mean)^2 and SS_AB = sum of (mean_ab - mean_a - mean_b + mean)^2.
    """
    deviations = y_N - y_N.mean()
    total = float((deviations**2).sum())
    own = {each.name: _means(deviations, each.codes) for each in factors}
    shares: dict[Term, float] = {(name,): float((means**2).sum()) / total for name, means in own.items()}
    for a, b in pairs(factors):
        both = _means(deviations, a.codes * len(b.levels) + b.codes) - own[a.name] - own[b.name]
        shares[a.name, b.name] = float((both**2).sum()) / total
    return shares


def shapley(explained: Mapping[frozenset[str], np.ndarray], names: Sequence[str]) -> dict[str, np.ndarray]:
    """Return each name's mean gain over all orders: sum over S without it of |S|! (p-|S|-1)! / p! (v(S + it) - v(S)).

    `explained` has the value of every set of names (Shapley 1953).
    """
    p = len(names)
    weights = [math.factorial(size) * math.factorial(p - size - 1) / math.factorial(p) for size in range(p)]
    return {
        name: np.sum(
            [weights[len(s)] * (explained[s | {name}] - explained[s]) for s in explained if name not in s], axis=0
        )
        for name in names
    }


def _means(values: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Each row's group's mean."""
    means: np.ndarray = (np.bincount(codes, values) / np.maximum(np.bincount(codes), 1))[codes]
    return means


def _has_runs(table: SweepTable, a: Factor, b: Factor) -> bool:
    """Whether most of the combinations of two factors that occur have more than one run."""
    combined = a.codes * len(b.levels) + b.codes
    runs = [len(set(table.run_N[combined == code].tolist())) for code in np.unique(combined)]
    return 2 * runs.count(1) <= len(runs)


def _gains(y_N: np.ndarray, factors: Sequence[Factor], wanted: Sequence[tuple[Factor, Factor]]) -> dict[Term, float]:
    """What R^2 gains by each interaction over all factors."""
    additive, total = design(factors, len(y_N)), float(((y_N - y_N.mean()) ** 2).sum())
    left = fit(additive, y_N).rss
    return {(a.name, b.name): (left - fit(np.hstack([additive, products(a, b)]), y_N).rss) / total for a, b in wanted}


def _tests(table: SweepTable) -> dict[Term, float | None]:
    """F tests over the runs' scores: of each setting, given the others, and of two settings' interaction, given all."""
    scores, n = run_scores(table), len(table.runs)
    additive = design(table.settings, n)
    full = fit(additive, scores)
    tests: dict[Term, float | None] = {}
    for setting in table.settings:
        others = design([each for each in table.settings if each is not setting], n)
        tests[setting.name,] = f_test(fit(others, scores), full)
    for a, b in pairs(table.settings):
        tests[a.name, b.name] = f_test(full, fit(np.hstack([additive, products(a, b)]), scores))
    return tests


def resampled_shares(
    table: SweepTable, factors: Sequence[Factor], wanted: Sequence[tuple[Factor, Factor]], seed: int, resamples: int
) -> dict[Term, np.ndarray]:
    """Return shares of the sweep, then of each resample of runs, [1 + W]; of the larger interactions none."""
    blocks: dict[Term, np.ndarray] = {(each.name,): indicators(each) for each in factors}
    columns = 0
    for a, b in sorted(wanted, key=lambda pair: len(pair[0].levels) * len(pair[1].levels)):
        block = products(a, b)
        columns += block.shape[1]
        if columns <= MOST_COLUMNS:
            blocks[a.name, b.name] = block
    scale = float(table.y_N.std()) or 1.0
    y = (table.y_N - table.y_N.mean()) / scale
    x = np.hstack([np.ones((len(y), 1)), *blocks.values(), y[:, None]])
    place: dict[Term, slice] = {}
    start = 1
    for term, block in blocks.items():
        place[term] = slice(start, start + block.shape[1])
        start += block.shape[1]
    parts = [_shares(gram, place, [each.name for each in factors]) for gram in _grams(x, table, seed, resamples)]
    return {term: np.concatenate([part[term] for part in parts]) for term in place}


def _grams(x_NK: np.ndarray, table: SweepTable, seed: int, resamples: int) -> Iterator[np.ndarray]:
    """X'X of the sweep and of the resamples, [some of 1 + W, K, K]: sums of the drawn runs' own."""
    runs, size = len(table.runs), x_NK.shape[1]
    gram_RKK = np.stack([x_NK[table.run_N == run].T @ x_NK[table.run_N == run] for run in range(runs)])
    drawn = np.random.default_rng(seed).multinomial(runs, np.full(runs, 1 / runs), size=resamples)
    counts = np.vstack([np.ones((1, runs)), drawn])
    block = max(1, _CELLS // size**2)
    for start in range(0, len(counts), block):
        yield np.tensordot(counts[start : start + block], gram_RKK, axes=1)


def _shares(gram_WKK: np.ndarray, place: Mapping[Term, slice], names: Sequence[str]) -> dict[Term, np.ndarray]:
    """Shapley shares of the factors, and what R^2 gains by each interaction over all of them, [W]."""
    ridge = _RIDGE * gram_WKK[:, 0, 0]
    centred = _without(gram_WKK, slice(0, 1), ridge)
    total = centred[:, -1, -1]
    with np.errstate(invalid="ignore", divide="ignore"):
        per_total = np.where(total > _NO_VARIANCE * gram_WKK[:, 0, 0], 1 / total, np.nan)
    first = place[names[0],].start
    sizes = [place[name,].stop - place[name,].start for name in names]
    end = first + sum(sizes)
    own = np.r_[0 : end - first, centred.shape[1] - 1]
    left = dict(_left(centred[:, own[:, None], own], list(zip(names, sizes, strict=True)), frozenset(), ridge))
    explained = {some: (total - unexplained) * per_total for some, unexplained in left.items()}
    shares: dict[Term, np.ndarray] = {(name,): each for name, each in shapley(explained, names).items()}
    rest = _without(centred, slice(0, end - first), ridge)
    for term, columns in place.items():
        if len(term) == 2:
            block = slice(columns.start - end, columns.stop - end)
            shares[term] = _gain(rest, block, ridge) * per_total
    return shares


def _left(
    gram_WKK: np.ndarray, factors: Sequence[tuple[str, int]], some: frozenset[str], ridge: np.ndarray
) -> Iterator[tuple[frozenset[str], np.ndarray]]:
    """What every set of factors leaves of the sum of squares, [W].

    Each set is reached once, from the one without its last factor, by eliminating that factor's columns. `gram_WKK` has
    those of the `factors` to come, a name and a number of columns each, and y.
    """
    yield some, gram_WKK[:, -1, -1]
    start = 0
    for i, (name, size) in enumerate(factors):
        rest = gram_WKK[:, start:, start:]
        yield from _left(_without(rest, slice(0, size), ridge), factors[i + 1 :], some | {name}, ridge)
        start += size


def _without(gram_WKK: np.ndarray, first: slice, ridge: np.ndarray) -> np.ndarray:
    """Sums of squares and products about the fit on the first columns, of the others: the Schur complement."""
    others = gram_WKK[:, first, first.stop :]
    beta = np.linalg.solve(_ridged(gram_WKK[:, first, first], ridge), others)
    schur: np.ndarray = gram_WKK[:, first.stop :, first.stop :] - np.swapaxes(others, 1, 2) @ beta
    return schur


def _gain(gram_WKK: np.ndarray, block: slice, ridge: np.ndarray) -> np.ndarray:
    """Sum of squares of y that a block of columns explains, [W]."""
    xy = gram_WKK[:, block, -1:]
    beta = np.linalg.solve(_ridged(gram_WKK[:, block, block], ridge), xy)
    gain: np.ndarray = (xy * beta).sum(axis=(1, 2))
    return gain


def _ridged(gram_WKK: np.ndarray, ridge: np.ndarray) -> np.ndarray:
    ridged: np.ndarray = gram_WKK + ridge[:, None, None] * np.eye(gram_WKK.shape[1])
    return ridged


def _interval(resampled_W: np.ndarray, share: float) -> tuple[float | None, float | None]:
    usable = resampled_W[np.isfinite(resampled_W)]
    if not len(usable):
        return None, None
    low, high = np.quantile(usable, (0.025, 0.975))
    return min(max(0.0, float(low)), share), max(float(high), share)
