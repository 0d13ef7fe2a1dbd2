"""What a reader of a sweep is tempted to conclude and its data do not carry, a line each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from markov_cot.analysis.sweep_cells import CellTable
from markov_cot.analysis.sweep_design import Confound, is_unknown
from markov_cot.analysis.sweep_effects import SettingEffect
from markov_cot.analysis.sweep_factors import Factor
from markov_cot.analysis.sweep_report import Sweep
from markov_cot.analysis.sweep_rows import listed, number

MOST_CONFOUNDS = 6
ALPHA = 0.05
"""An interaction with a smaller p-value counts as one."""

Show = Callable[[float], str]
"""Writes a value of the metric."""


def cautions(sweep: Sweep) -> list[str]:
    """Return what the sweep does not show, beside what it seems to."""
    show = shown_by(sweep)
    return [
        *_repetition(sweep),
        *_confounds(sweep),
        *_names(sweep, show),
        *_levels(sweep, show),
        *_dependence(sweep, show),
        *_steps(sweep, show),
        *_best(sweep, show),
    ]


def shown_by(sweep: Sweep) -> Show:
    """Return how values of the metric are written: to about a hundredth of their standard deviation."""
    size = int(np.floor(np.log10(sweep.table.y_N.std())))
    return lambda value: f"{value:.{max(0, 2 - size)}f}" if -4 <= size <= 6 else f"{value:.4g}"


def _repetition(sweep: Sweep) -> Iterator[str]:
    curse = sweep.best.curse
    if curse is None:
        yield (
            "there are as many levels as runs: no run is left to judge a difference by, and none of them has an error; "
            "run combinations again with other seeds"
        )
    elif not curse.noise.is_replicated:
        yield (
            "one run a combination: what another seed would change is unknown. Errors are what the settings leave "
            "unexplained when their effects just add up, interactions included; they hold for this sweep only"
        )


def _confounds(sweep: Sweep) -> Iterator[str]:
    found = [each for each in sweep.confounds if not is_unknown(each)]
    for each in found[:MOST_CONFOUNDS]:
        yield f"{_confound(each)} ({each.runs} runs): which of them matters cannot be told"
    if len(found) > MOST_CONFOUNDS:
        yield f"{len(found) - MOST_CONFOUNDS} more groups of values occur together only (--json has them all)"


def _confound(confound: Confound) -> str:
    words = [f"{column}={value}" for column, value in confound.values if number(value) is None]
    numbers = [f"{column}={value}" for column, value in confound.values if number(value) is not None]
    if len(words) == 1 and numbers:
        return f"{words[0]} stands for {' and '.join(numbers)}, which occur together only"
    return f"{confound} occur together only"


def _names(sweep: Sweep, show: Show) -> Iterator[str]:
    """Columns that are a coarser name for a setting: their means compare its levels."""
    factors = {each.name: each for each in sweep.table.described}
    for name, reason in sweep.table.left_out.items():
        other = next((each for each in sweep.table.settings if reason == f"follows from {each.name}"), None)
        if other is not None and name in factors:
            coarse = factors[name]
            parts = [_part(sweep, coarse, code, other, show) for code in range(len(coarse.levels))]
            yield f"{name} says nothing beyond {other.name}: it compares {', with '.join(parts)}"


def _part(sweep: Sweep, coarse: Factor, code: int, fine: Factor, show: Show) -> str:
    runs = coarse.codes == code
    mean = sweep.table.y_N[runs[sweep.table.run_N]].mean()
    levels = [level for i, level in enumerate(fine.levels) if (fine.codes[runs] == i).any()]
    return f"{coarse.levels[code]} ({show(mean)}; {fine.name} {', '.join(levels)})"


def _levels(sweep: Sweep, show: Show) -> Iterator[str]:
    sign = sweep.table.sign
    for name, effect in sweep.effects.items():
        best = max(effect.means, key=lambda each: sign * each.mean)
        if best.level != effect.reference:
            yield (
                f"{name}: {best.level} has the best mean ({show(best.mean)}), and other settings change with it, so "
                f"that it cannot be compared; of the others, {effect.reference} is best"
            )
        alike = [
            f"{level} ({show(each.difference)} ± {show(each.stderr)})"
            for level, each in effect.contrasts.items()
            if each and each.stderr is not None and not each.is_told_apart
        ]
        count = next(each.n for each in effect.means if each.level == effect.reference)
        if count == 1 and len(sweep.table.runs) > len(effect.means):
            yield f"{name}: {effect.reference} is best by a single run"
        if alike:
            yield f"{name}: {effect.reference} cannot be told from {listed(alike)} (difference ± standard error)"
        own = sweep.best.row_settings[name]
        if own != best.level:
            yield (
                f"{name}: the best single value ({show(sweep.best.row)}) has {own}, the best mean has {best.level} "
                f"({show(best.mean)} against {show(_mean_of(effect, own))})"
            )


def _mean_of(effect: SettingEffect, level: str) -> float:
    return next(each.mean for each in effect.means if each.level == level)


def _dependence(sweep: Sweep, show: Show) -> Iterator[str]:
    for names, table in sweep.cells.items():
        share = sweep.shares.terms.get(names)
        if share is None or share.p_value is None or share.p_value >= ALPHA:
            continue
        best = table.best(sweep.table.sign)
        winners = dict.fromkeys(best.values())
        if len(winners) > 1:
            where = {level: " and ".join(other for other in best if best[other] == level) for level in winners}
            at = ", ".join(f"{level} at {others}" for level, others in where.items())
            text = f"{table.a.name}: which is best depends on {table.b.name} ({at}), so no single one is"
            yield f"{text}; {_corner(table, show)}" if table.corner else text


def _corner(table: CellTable, show: Show) -> str:
    corner = table.corner
    assert corner is not None
    (low, high), (one, other) = corner.levels, corner.at
    error = "" if corner.stderr is None else f" ± {show(corner.stderr)}"
    unequal = ", from very unequal spreads" if table.is_unequal else ""
    direction = "higher" if corner.size > 0 else "lower"
    return (
        f"{high} less {low} is {show(abs(corner.size))}{error} {direction} at {one} than at {other}, a contrast chosen "
        f"after looking{unequal}"
    )


def _steps(sweep: Sweep, show: Show) -> Iterator[str]:
    found, step = sweep.plateau, sweep.table.step
    if found is None or step is None or found.best.stderr is None or found.best.mean == 0:
        return
    sign = sweep.table.sign
    better = "above" if sign > 0 else "below"
    fair = ""
    if (chosen := found.chosen) and chosen.stderr is not None:
        gain = f"by {show(sign * chosen.mean)} ± {show(chosen.stderr)}" if sign * chosen.mean > 0 else "not at all"
        fair = f"; a step chosen by the other runs is {better} it {gain}"
    yield (
        f"each run's own best checkpoint is {better} its final one by {show(sign * found.best.mean)} ± "
        f"{show(found.best.stderr)} on average, because it was chosen by the score itself{fair}"
    )
    peak = next(row.difference for row in found.rows if row.step == found.peak)
    if peak.is_told_apart and peak.stderr is not None:
        count = peak.above if sign > 0 else peak.below
        yield (
            f"{step.name} {found.peak} is a peak and no plateau: {better} the final one by {show(sign * peak.mean)} ± "
            f"{show(peak.stderr)} in {count} of {peak.n} runs, and the steps after it give that back"
        )


def _best(sweep: Sweep, show: Show) -> Iterator[str]:
    best, curse = sweep.best, sweep.best.curse
    if sweep.table.step is not None:
        mean = sweep.table.y_N[sweep.table.run_N == sweep.table.runs.index(best.row_run)].mean()
        yield (
            f"the best single value, {show(best.row)}, is the best of {best.rows}; the mean of its run is "
            f"{show(float(mean))}"
        )
    if curse is not None and best.combinations > 1:
        m = best.combinations
        bound = "" if curse.noise.is_replicated else "up to "
        rivals = f"{curse.rivals} of the other {m - 1} cannot" if curse.rivals else f"all of the other {m - 1} can"
        yield (
            f"the best combination is the best of {m}: {rivals} be told from it, the best of {m} equal ones would "
            f"overstate itself by {bound}{show(curse.overstated)}, and a new run of it is expected at "
            f"{show(curse.shrunk)} rather than {show(best.score)}"
        )


def settings_text(settings: Mapping[str, str]) -> str:
    """Return a combination as a line."""
    return ", ".join(f"{name}={level}" for name, level in settings.items())
