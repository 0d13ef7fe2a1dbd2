"""What each setting does to a run's score: means, differences between levels, and tests, with the run as the unit.

Checkpoints of a run are not independent: whatever the run's seed or settings did to one, they did to all. So each run
counts once, by its score.

Shapes: N rows, R runs, S steps, K columns of a design matrix. Units: those of the metric.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from markov_cot.analysis.sweep_design import indicators
from markov_cot.analysis.sweep_factors import Factor
from markov_cot.analysis.sweep_table import SweepTable

TOLERANCE = 1e-8
"""Relative size below which a number that rounding has made is 0."""


@dataclass(frozen=True, slots=True)
class Mean:
    """Of a level's runs."""

    level: str
    n: int
    """Runs."""
    mean: float
    low: float | None
    high: float | None
    """95 % interval of Student's t over the runs; None for one run."""


@dataclass(frozen=True, slots=True)
class Contrast:
    """A level less the best one, the other settings being equal."""

    level: str
    difference: float
    stderr: float | None
    """By runs; None where no run is left to judge by."""
    low: float | None
    high: float | None
    stderr_rows: float | None
    """What taking every checkpoint for a run of its own would give."""

    @property
    def is_told_apart(self) -> bool:
        """Whether the interval leaves 0 out."""
        return self.low is not None and self.high is not None and not self.low <= 0 <= self.high


@dataclass(frozen=True, slots=True)
class SettingEffect:
    """What one setting does."""

    means: tuple[Mean, ...]
    reference: str
    """Level with the best mean of those that can be compared."""
    contrasts: dict[str, Contrast | None]
    """By level, without the reference; None where other settings always change with it."""


@dataclass(frozen=True, slots=True)
class Fit:
    """Ordinary least squares."""

    beta_K: np.ndarray
    covariance_KK: np.ndarray
    """(X'X)^+, to be multiplied by the variance."""
    rss: float
    rank: int
    df: int
    """Left for the variance: n - rank."""

    @property
    def variance(self) -> float | None:
        """rss / df; None where nothing is left."""
        return self.rss / self.df if self.df else None


def fit(x_nK: np.ndarray, y_n: np.ndarray) -> Fit:
    """Return the least-squares fit; of columns that say the same, the shortest solution."""
    beta, _, rank, _ = np.linalg.lstsq(x_nK, y_n, rcond=None)
    rss = float(((y_n - x_nK @ beta) ** 2).sum())
    total = float(((y_n - y_n.mean()) ** 2).sum())
    return Fit(
        beta, np.linalg.pinv(x_nK.T @ x_nK, hermitian=True), 0.0 if rss < TOLERANCE * total else rss, int(rank),
        len(y_n) - int(rank),
    )  # fmt: skip


def run_scores(table: SweepTable) -> np.ndarray:
    """Return each run's score, [R]: its mean over the steps, as though every run had all of them.

    Where runs have different steps, it is the run's effect in y = run + step, fitted by least squares, at the mean of
    the steps' effects.
    """
    counts = np.bincount(table.run_N)
    means = np.bincount(table.run_N, table.y_N) / counts
    if table.step is None or (counts == len(table.step.levels)).all():
        return means
    runs, steps = len(table.runs), len(table.step.levels)
    x = np.hstack([np.eye(runs)[table.run_N], indicators(table.step)])
    beta = np.linalg.lstsq(x, table.y_N, rcond=None)[0]
    scores: np.ndarray = beta[:runs] + beta[runs:].sum() / steps
    return scores


def setting_effects(table: SweepTable) -> dict[str, SettingEffect]:
    """Return what each setting does to the score, by its name.

    The differences are those of the additive model score = constant + settings over the runs. Where every run has the
    same steps they and their standard errors are those of the mixed model with a random intercept for each run
    (Laird & Ware 1982), whose estimates of what is constant within runs rest on the runs' means.
    """
    scores = run_scores(table)
    return {each.name: _effect(table, scores, each) for each in table.settings}


def t_interval(mean: float, stderr: float, df: int) -> tuple[float, float]:
    """Return Student's 95 % interval: mean ± t_{0.975, df} stderr.

    >>> [round(end, 3) for end in t_interval(0.0, 1.0, 2)]
    [-4.303, 4.303]
    """
    from scipy.special import stdtrit  # a tenth of a second, which --help need not wait for

    half = float(stdtrit(df, 0.975)) * stderr
    return mean - half, mean + half


def f_test(smaller: Fit, larger: Fit) -> float | None:
    """Return the p-value of the F test that a model explains no more than another within it.

    F = ((rss_0 - rss_1) / (rank_1 - rank_0)) / (rss_1 / df_1). None where that is not defined.
    """
    from scipy.special import fdtrc

    df = larger.rank - smaller.rank
    if not df or not larger.variance:
        return None
    return float(fdtrc(df, larger.df, max(0.0, smaller.rss - larger.rss) / df / larger.variance))


def _effect(table: SweepTable, scores: np.ndarray, setting: Factor) -> SettingEffect:
    means = [_mean(scores[setting.codes == code], level) for code, level in enumerate(setting.levels)]
    reference = _reference(table, setting, [table.sign * each.mean for each in means])
    return SettingEffect(tuple(means), setting.levels[reference], _contrasts(table, scores, setting, reference))


def _mean(scores: np.ndarray, level: str) -> Mean:
    n, mean = len(scores), float(scores.mean())
    if n == 1:
        return Mean(level, 1, mean, None, None)
    return Mean(level, n, mean, *t_interval(mean, float(scores.std(ddof=1)) / math.sqrt(n), n - 1))


def _reference(table: SweepTable, setting: Factor, goodness: Sequence[float]) -> int:
    """The best level of the most that can be compared with each other."""
    comparable = [_comparable(table, setting, code) for code in range(len(setting.levels))]
    best = sorted(range(len(setting.levels)), key=lambda code: (-len(comparable[code]), -goodness[code]))
    return best[0]


def _comparable(table: SweepTable, setting: Factor, reference: int) -> list[int]:
    """Columns of the setting's indicators that estimate a difference from the reference.

    c'beta is estimable where c is in the rows' space of X: c (I - X^+ X) = 0.
    """
    x = _ordered_design(table, setting, reference)
    null = np.eye(x.shape[1]) - np.linalg.pinv(x) @ x
    return [i for i in range(len(setting.levels) - 1) if np.abs(null[1 + i]).max() < TOLERANCE]


def _ordered_design(table: SweepTable, setting: Factor, reference: int) -> np.ndarray:
    """A constant, the setting's indicators, and those of the others."""
    others = [indicators(each) for each in table.settings if each is not setting]
    return np.hstack([np.ones((len(table.runs), 1)), indicators(setting, reference), *others])


def _contrasts(table: SweepTable, scores: np.ndarray, setting: Factor, reference: int) -> dict[str, Contrast | None]:
    x = _ordered_design(table, setting, reference)
    by_runs, comparable = fit(x, scores), _comparable(table, setting, reference)
    x_rows = x[table.run_N] if table.step is None else np.hstack([x[table.run_N], indicators(table.step)])
    by_rows = fit(x_rows, table.y_N)
    found: dict[str, Contrast | None] = {}
    for i, level in enumerate(each for code, each in enumerate(setting.levels) if code != reference):
        if i not in comparable:
            found[level] = None
            continue
        difference, stderr = float(by_runs.beta_K[1 + i]), _stderr(by_runs, 1 + i)
        low, high = (None, None) if stderr is None else t_interval(difference, stderr, by_runs.df)
        found[level] = Contrast(level, difference, stderr, low, high, _stderr(by_rows, 1 + i))
    return found


def _stderr(fitted: Fit, column: int) -> float | None:
    if fitted.variance is None:
        return None
    return math.sqrt(fitted.variance * float(fitted.covariance_KK[column, column]))
