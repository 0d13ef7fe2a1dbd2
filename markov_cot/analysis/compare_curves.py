"""Curves of several runs over the steps, and the seeds of a setting pooled. What is drawn of them is the report's."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markov_cot.analysis.compare_run import ComparedRun
from markov_cot.analysis.compare_settings import Setting, data_of
from markov_cot.evaluation.runs import held_out_key

KEYS = (
    "reward/value", "reward/normalized", "policy/kl", "policy/entropy", "cot/repetition", "cot/answer_in_cot",
)  # fmt: skip
"""Keys of the log, beside the held-out result."""


@dataclass(frozen=True, slots=True)
class Series:
    """A column of one run's log where it is a number."""

    step: tuple[int, ...]
    value: tuple[float, ...]
    low: tuple[float, ...] | None = None
    """Ends of the 95 % interval, of held-out accuracy."""
    high: tuple[float, ...] | None = None


@dataclass(frozen=True, slots=True)
class PooledSeries:
    """The seeds of a setting, at the steps that all of them have."""

    runs: tuple[str, ...]
    step: tuple[int, ...]
    mean: tuple[float, ...]
    low: tuple[float, ...]
    """The lowest of the seeds, no end of an interval."""
    high: tuple[float, ...]


@dataclass(frozen=True)
class Curve:
    """One metric of the runs that share their data."""

    key: str
    """As logged, without the dataset: `eval/accuracy`."""
    data: str
    runs: Mapping[str, Series]
    pooled: Sequence[PooledSeries]
    """Of settings with two seeds or more."""


def curves_of(runs: Sequence[ComparedRun], settings: Sequence[Setting]) -> tuple[Curve, ...]:
    """Return what can be laid over one another: runs with the same data, a curve for each key that any of them has."""
    data = data_of(runs)
    found = []
    for name in dict.fromkeys(data.values()):
        columns = {run.name: _series(run) for run in runs if data[run.name] == name}
        for key in dict.fromkeys(key for each in columns.values() for key in each):
            series = {run: each[key] for run, each in columns.items() if key in each}
            pooled = [_pooled(each.members, series) for each in settings if len(each.members) > 1]
            found.append(Curve(key, name, series, tuple(each for each in pooled if each)))
    return tuple(found)


def _series(run: ComparedRun) -> dict[str, Series]:
    """The curves of one run."""
    found = {}
    if logged := held_out_key(run.log):
        measure = logged.rsplit("/", 1)[1]
        if band := _column(run, logged, f"{logged}_low", f"{logged}_high"):
            found[f"eval/{measure}"] = band
        elif line := _column(run, logged):
            found[f"eval/{measure}"] = line
    return found | {key: line for key in KEYS if (line := _column(run, key))}


def _column(run: ComparedRun, key: str, *band: str) -> Series | None:
    """The steps at which all of these keys are numbers."""
    keys = (key, *band)
    if any(each not in run.log for each in keys):
        return None
    rows = zip(run.log["step"], *(run.log[each] for each in keys), strict=True)
    kept = [row for row in rows if all(map(math.isfinite, row))]
    if not kept:
        return None
    step, value, *ends = zip(*kept, strict=True)
    return Series(tuple(map(int, step)), value, *ends)


def _pooled(members: Sequence[str], series: Mapping[str, Series]) -> PooledSeries | None:
    """The mean and spread over the seeds; None where a seed has no such curve or they have no step in common."""
    if any(name not in series for name in members):
        return None
    at = [dict(zip(series[name].step, series[name].value, strict=True)) for name in members]
    steps = sorted(set.intersection(*(set(each) for each in at)))
    if not steps:
        return None
    values = [[each[step] for each in at] for step in steps]
    return PooledSeries(
        tuple(members),
        tuple(steps),
        tuple(map(statistics.fmean, values)),
        tuple(map(min, values)),
        tuple(map(max, values)),
    )
