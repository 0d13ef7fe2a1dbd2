"""From rows to runs: who is the same run, what is there twice, and which settings can be told apart.

Shapes: N rows, R runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from markov_cot.analysis.sweep_columns import Columns
from markov_cot.analysis.sweep_factors import NONE, Factor, grouped, label_of, make_factor, says
from markov_cot.analysis.sweep_names import FINAL, split_step
from markov_cot.analysis.sweep_rows import Rows, listed, number
from markov_cot.utils.errors import UserError

LARGEST = 1e100
"""Of a metric's values, so that their squares can be summed."""
ROUNDING = 1e-12
"""Relative deviation of values that are the same but for rounding."""
MOST_LEVELS = 8
"""More than these, and than half the runs, are no grid: numbers are then grouped, words left out."""
MOST_GROUPS = 4
MOST_WORDS = 100
MOST_STEPS, STEP_GROUPS = 20, 10
"""More steps than the one are averaged in the other's number of groups."""
MOST_FACTORS = 8
"""Settings and step: the Shapley share takes 2 to this power regressions."""


@dataclass(frozen=True)
class SweepTable:
    """A sweep, ready to be analysed. The unit is the run; its rows are its checkpoints."""

    metric: str
    lower_is_better: bool
    y_N: np.ndarray
    """Values of the metric."""
    run_N: np.ndarray
    """Each row's run."""
    runs: tuple[str, ...]
    """Their names."""
    step: Factor | None
    """Of the rows; None unless a run has several."""
    settings: tuple[Factor, ...]
    """Of the runs, [R]."""
    described: tuple[Factor, ...]
    """The settings, and the columns that follow from one of them."""
    left_out: Mapping[str, str]
    """Columns that are no setting, and why."""
    notes: tuple[str, ...]
    """What was dropped, grouped or assumed."""

    def of_rows(self, factor: Factor) -> Factor:
        """Return a setting of the runs as one of the rows, [N]."""
        return factor.at(self.run_N)

    @property
    def sign(self) -> int:
        """1 where higher is better, else -1."""
        return -1 if self.lower_is_better else 1

    @property
    def row_factors(self) -> tuple[Factor, ...]:
        """The settings and the step, of the rows."""
        return (*(self.of_rows(each) for each in self.settings), *((self.step,) if self.step else ()))


def build_table(rows: Rows, columns: Columns) -> SweepTable:
    """Return the runs. Raises `UserError` for values that are no numbers, one run only, or no setting that varies."""
    values = _values(rows, columns.metric)
    names = [_run_name(cells, columns, place) for cells, place in zip(rows.cells, rows.places, strict=True)]
    kept, notes = _without_duplicates(rows, columns, names, values)
    rows, names, values = rows.keep(kept), [names[i] for i in kept], [values[i] for i in kept]
    runs = list(dict.fromkeys(names))
    if len(runs) < 2:
        raise UserError(f"{rows.source}: has one run only ({runs[0]}); a sweep needs two or more to compare")
    if np.std(values) <= ROUNDING * np.abs(values).max():
        raise UserError(f"{rows.source}: {columns.metric} is {values[0]:g} in every row; name another with --metric")
    place = {name: i for i, name in enumerate(runs)}
    run_N = np.array([place[name] for name in names])
    step = _step(rows, columns, run_N)
    described, left_out = _described(rows, columns, run_N)
    described, unfit, grouping = _settings(rows, columns, described, len(runs))
    settings, following = _of_their_own(described, rows, step is not None)
    if ignored := [name for name in columns.others if _of_runs(name, rows, run_N)[0]]:
        notes.append(
            f"what --settings leaves out counts as chance, though it varies between runs: {', '.join(ignored)}"
        )
    y_N = np.array(values)
    if step and len(step.levels) > MOST_STEPS:
        notes.append(f"{len(step.levels)} values of {step.name} are averaged in {STEP_GROUPS} groups")
        y_N, run_N, step = _averaged(y_N, run_N, grouped(step, STEP_GROUPS))
    return SweepTable(
        metric=columns.metric,
        lower_is_better=columns.lower_is_better,
        y_N=y_N,
        run_N=run_N,
        runs=tuple(runs),
        step=step,
        settings=tuple(settings),
        described=tuple(described),
        left_out={**columns.left_out, **left_out, **unfit, **following},
        notes=(*rows.notes, *notes, *grouping),
    )


def _values(rows: Rows, metric: str) -> list[float]:
    values = []
    for cells, place in zip(rows.cells, rows.places, strict=True):
        value = number(cells[metric])
        if value is None or abs(value) > LARGEST:
            kind = "finite number" if value is None else "number that can be averaged"
            raise UserError(
                f"{place}: {metric} is {cells[metric]!r}, not a {kind}; correct it, or leave such rows out with "
                f"--where {metric}!={cells[metric]}"
            )
        values.append(value)
    return values


def _run_name(cells: Mapping[str, str], columns: Columns, place: str) -> str:
    """The name without its step; where there are no names, the settings, or without steps the row itself."""
    if columns.run:
        return split_step(cells[columns.run])[0]
    if not columns.step:
        return place
    return ", ".join(f"{name}={label_of(cells[name])}" for name in columns.identity)


def _without_duplicates(
    rows: Rows, columns: Columns, names: Sequence[str], values: Sequence[float]
) -> tuple[list[int], list[str]]:
    """Indices of the rows without those that repeat an earlier one, and what is said of it."""
    first: dict[tuple[str, ...], int] = {}
    for i, (name, cells) in enumerate(zip(names, rows.cells, strict=True)):
        step = label_of(cells[columns.step]) if columns.step else ""
        key = (name, step) if columns.run or columns.step else tuple(cells.values())
        there = first.setdefault(key, i)
        if values[there] != values[i]:
            at = f" at {columns.step} {step}" if step else ""
            raise UserError(
                f"{rows.places[i]}: {columns.metric} of {name}{at} is {values[i]:g}, and {values[there]:g} in "
                f"{rows.places[there]}; name the column that tells the two runs apart with --run, or drop one of them"
            )
    kept = sorted(first.values())
    notes = []
    if dropped := len(rows.cells) - len(kept):
        places = [rows.places[i] for i in sorted(set(range(len(rows.cells))) - set(kept))]
        unnamed = "" if columns.run else "; where they are runs of their own, give them names or seeds"
        notes.append(
            f"{len(rows.cells)} rows were read, of which {dropped} repeat an earlier one and are dropped "
            f"({listed(places)}): {len(kept)} are left{unnamed}"
        )
    copies = _copies(rows, columns, names, kept)
    if copies:
        notes.append(f"runs that copy another one, value for value, are dropped: {listed(sorted(copies))}")
    return [i for i in kept if names[i] not in copies], notes


def _copies(rows: Rows, columns: Columns, names: Sequence[str], kept: Sequence[int]) -> set[str]:
    """Runs of another name with the same cells throughout.

    One value may be the same by chance, so that only runs of several steps or of a stated seed count.
    """
    by_run: dict[str, list[tuple[str, ...]]] = {}
    for i in kept:
        cells = tuple(cell for name, cell in rows.cells[i].items() if name != columns.run)
        by_run.setdefault(names[i], []).append(cells)
    is_seeded = any(cell for name in columns.seeds for cell in rows.column(name))
    seen: set[tuple[tuple[str, ...], ...]] = set()
    copies = set()
    for name, each in by_run.items():
        content = tuple(sorted(each))
        if content in seen and (len(each) > 1 or is_seeded):
            copies.add(name)
        seen.add(content)
    return copies


def _step(rows: Rows, columns: Columns, run_N: np.ndarray) -> Factor | None:
    """The steps in their order, a word for the last one at the end; None where each run has one."""
    if not columns.step or len(set(run_N.tolist())) == len(run_N):
        return None
    for cells, place in zip(rows.cells, rows.places, strict=True):
        cell = cells[columns.step]
        if number(cell) is None and cell.lower() not in FINAL:
            raise UserError(f"{place}: {columns.step} is {cell!r}, not a number; name the steps' column with --step")
    found = make_factor(columns.step, rows.column(columns.step))
    return found if len(found.levels) > 1 else None


def _averaged(y_N: np.ndarray, run_N: np.ndarray, step: Factor) -> tuple[np.ndarray, np.ndarray, Factor]:
    """A row for each run and group of steps, with the mean of its values."""
    size = len(step.levels)
    there, which = np.unique(run_N * size + step.codes, return_inverse=True)
    means = np.bincount(which.reshape(-1), y_N) / np.bincount(which.reshape(-1))
    return means, there // size, Factor(step.name, step.levels, there % size)


def _described(rows: Rows, columns: Columns, run_N: np.ndarray) -> tuple[list[Factor], dict[str, str]]:
    """The settings' columns that vary between runs and not within one, by run, and why others are left out."""
    found, left_out = [], {}
    for name in columns.settings:
        factor, reason, place = _of_runs(name, rows, run_N)
        if factor:
            found.append(factor)
        elif columns.are_chosen:
            raise UserError(f"--settings {name}: {reason}{place}, so it is no setting of the runs; leave it out")
        elif not rows.known:
            left_out[name] = reason
    return found, left_out


def _of_runs(name: str, rows: Rows, run_N: np.ndarray) -> tuple[Factor | None, str, str]:
    """A column as a factor of the runs, or why it is none, and where that is seen."""
    first = np.unique(run_N, return_index=True)[1]
    factor = make_factor(name, rows.column(name))
    moving = np.flatnonzero(factor.codes != factor.codes[first][run_N])
    if len(moving):
        return None, "changes within a run", f" ({rows.places[int(moving[0])]})"
    return (factor.at(first), "", "") if len(factor.levels) > 1 else (None, f"is {factor.levels[0]} throughout", "")


def _settings(
    rows: Rows, columns: Columns, described: Sequence[Factor], runs: int
) -> tuple[list[Factor], dict[str, str], list[str]]:
    """The described columns that can be analysed, why others cannot, and what was grouped."""
    found: list[Factor] = []
    left_out, notes = {}, []
    for factor in described:
        levels = len(factor.levels)
        if same := next((each for each in found if says(each, factor) and says(factor, each)), None):
            left_out[factor.name] = f"says the same as {same.name}"
        elif levels <= MOST_LEVELS or 2 * levels <= runs:
            found.append(factor)
        elif not (columns.are_chosen or rows.known):
            left_out[factor.name] = f"has {levels} values in {runs} runs; --settings takes it all the same"
        elif all(number(label) is not None for label in factor.levels if label != NONE):
            found.append(grouped(factor, MOST_GROUPS))
            notes.append(f"{factor.name} has {levels} values in {runs} runs: grouped as {', '.join(found[-1].levels)}")
        elif levels <= MOST_WORDS:
            found.append(factor)
        else:
            raise UserError(f"{rows.source}: {factor.name} has {levels} values, too many for a setting; leave it out")
    return found, left_out, notes


def _of_their_own(found: Sequence[Factor], rows: Rows, has_step: bool) -> tuple[list[Factor], dict[str, str]]:
    """The settings that do not follow from a finer one, and why the others do. Raises `UserError` for none or many."""
    left_out = {}
    for factor in found:
        if finer := next(
            (each for each in found if len(each.levels) > len(factor.levels) and says(each, factor)), None
        ):
            left_out[factor.name] = f"follows from {finer.name}"
    settings = [each for each in found if each.name not in left_out]
    if not settings:
        raise UserError(
            f"{rows.source}: no column is a setting that varies between runs; name some with --settings, or read them "
            "out of the runs' names, as in --pattern 'rank{rank}-lr{learning_rate}'"
        )
    if len(settings) + has_step > MOST_FACTORS:
        names = ", ".join(each.name for each in settings)
        most = MOST_FACTORS - has_step
        raise UserError(
            f"{rows.source}: {len(settings)} settings vary, too many; name up to {most} with --settings ({names})"
        )
    return settings, left_out
