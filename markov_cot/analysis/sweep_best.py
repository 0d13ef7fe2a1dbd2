"""The best setting, and how much of its lead is owed to having been chosen among many.

Shapes: R runs. Units: those of the metric.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from markov_cot.analysis.sweep_cells import within
from markov_cot.analysis.sweep_design import design
from markov_cot.analysis.sweep_effects import fit, run_scores
from markov_cot.analysis.sweep_table import SweepTable


@dataclass(frozen=True, slots=True)
class Noise:
    """How much the score of a combination varies for no reason of its settings."""

    deviation: float
    """Standard deviation between runs of one combination."""
    df: int
    is_replicated: bool
    """Whether it is from runs of the same combination; otherwise it is what the additive model leaves, interactions
    included."""


@dataclass(frozen=True, slots=True)
class Curse:
    """What a score is worth that was chosen as the best of many."""

    noise: Noise
    overstated: float
    """What the best of so many equal combinations would exceed their true score by."""
    shrunk: float
    """The score to expect of a new run of that combination."""
    rivals: int
    """Other combinations whose difference from the best has 0 in its 95 % interval."""


@dataclass(frozen=True, slots=True)
class Best:
    """The best of the sweep."""

    row: float
    """The best single value, as a leaderboard would quote it."""
    row_run: str
    row_step: str | None
    row_settings: Mapping[str, str]
    rows: int
    """Values it is the best of."""
    settings: Mapping[str, str]
    """The combination with the best score, the mean over its runs, which are means over their steps."""
    runs: int
    """Of that combination."""
    score: float
    combinations: int
    curse: Curse | None
    """None where no run is left to judge by."""


def best_setting(table: SweepTable) -> Best:
    """Return the best row and the best combination, with what its choice among many is worth.

    Winner's curse: of m equal combinations with noise sigma/sqrt(n) the best exceeds the truth by sigma/sqrt(n) times
    the expected maximum of m standard normals. The shrunk score is the empirical Bayes estimate (Efron & Morris 1975),
    mean + (1 - noise / variance of the combinations' means, at least 0) * (score - mean).
    """
    codes = np.stack([each.codes for each in table.settings], axis=1)
    combinations, which = np.unique(codes, axis=0, return_inverse=True)
    which = which.reshape(-1)
    scores = run_scores(table)
    counts = np.bincount(which)
    means = np.bincount(which, scores) / counts
    best = int((table.sign * means).argmax())
    noise = find_noise(table, scores, which)
    row = int((table.sign * table.y_N).argmax())
    run = int(table.run_N[row])
    return Best(
        row=float(table.y_N[row]),
        row_run=table.runs[run],
        row_step=table.step.levels[table.step.codes[row]] if table.step else None,
        row_settings=_named(table, codes[run]),
        rows=len(table.y_N),
        settings=_named(table, combinations[best]),
        runs=int(counts[best]),
        score=float(means[best]),
        combinations=len(means),
        curse=None if noise is None else _curse(means, counts, best, noise),
    )


def find_noise(table: SweepTable, scores_R: np.ndarray, which_R: np.ndarray) -> Noise | None:
    """Return the noise between runs: within combinations if any has several, else what the additive model leaves."""
    groups = [scores_R[which_R == code] for code in range(int(which_R.max()) + 1)]
    deviation = within(groups)
    if deviation is not None:
        return Noise(deviation, len(scores_R) - len(groups), is_replicated=True)
    additive = fit(design(table.settings, len(scores_R)), scores_R)
    if additive.variance is None:
        return None
    return Noise(math.sqrt(additive.variance), additive.df, is_replicated=False)


def expected_maximum(m: int) -> float:
    """Return the mean of the largest of m standard normals, the integral of x m phi(x) Phi(x)^(m-1).

    >>> round(expected_maximum(2), 6)  # 1 / sqrt(pi)
    0.56419
    """
    from scipy.special import ndtr

    x = np.linspace(-9.0, 9.0, 3601)
    density = m * np.exp(-(x**2) / 2) / math.sqrt(2 * math.pi) * ndtr(x) ** (m - 1)
    return float(np.trapezoid(x * density, x))


def _named(table: SweepTable, codes: np.ndarray) -> dict[str, str]:
    return {each.name: each.levels[code] for each, code in zip(table.settings, codes, strict=True)}


def _curse(means: np.ndarray, counts: np.ndarray, best: int, noise: Noise) -> Curse:
    from scipy.special import stdtrit

    stderr = noise.deviation / math.sqrt(counts[best])
    centre, spread = float(means.mean()), float(means.var(ddof=1)) if len(means) > 1 else 0.0
    kept = max(0.0, 1 - stderr**2 / spread) if spread else 0.0
    reach = float(stdtrit(noise.df, 0.975)) * noise.deviation * np.sqrt(1 / counts + 1 / counts[best])
    return Curse(
        noise=noise,
        overstated=expected_maximum(len(means)) * stderr,
        shrunk=centre + kept * (float(means[best]) - centre),
        rivals=int((np.abs(means - means[best]) <= reach).sum()) - 1,
    )
