"""What each column of a sweep is, as the user says or as its name and content suggest."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

from markov_cot.analysis.sweep_names import split_step
from markov_cot.analysis.sweep_rows import Rows, number
from markov_cot.utils.errors import UserError

METRICS = ("score", "accuracy", "acc", "winrate", "f1", "reward", "metric", "loss")
"""Words in the name of a column that is the metric; an earlier one counts more."""
LOWER_IS_BETTER = {"loss", "perplexity", "ppl", "nats", "error", "errors", "forgetting", "seconds", "time", "bytes"}
STEPS = ("step", "global_step", "checkpoint", "iteration", "epoch")
NAMES = ("run", "run_name", "run_id", "name", "experiment", "model", "id")
SEEDS = ("seed", "random_seed", "data_seed")
RESULTS = {
    *("acc", "accuracy", "bytes", "correct", "duration", "entropy", "f1", "flops", "forgetting", "kl", "logprob"),
    *("loss", "memory", "nats", "params", "perplexity", "ppl", "reward", "runtime", "score", "seconds", "stderr"),
    *("throughput", "time", "winrate"),
}
"""Words in the names of columns of numbers that come out of a run rather than go into it..."""
PARTS = {"clip", "coef", "coefficient", "limit", "mode", "scale", "target", "threshold", "type", "version", "weight"}
"""...unless one of these is there, too: a loss_type is a setting."""
NO_NUMBERS = {"", "-", "inf", "-inf", "n/a", "na", "nan", "none", "null"}
"""What stands in a column of numbers where there is none, as in a run that diverged."""
REMARKS = {
    *("comment", "comments", "commit", "created", "date", "dirty", "git", "note", "notes", "path", "sha", "status"),
    *("timestamp", "url", "uuid"),
}


@dataclass(frozen=True, slots=True)
class Asked:
    """What the user says of the columns; None or empty where it is to be inferred."""

    metric: str | None = None
    step: str | None = None
    run: str | None = None
    settings: tuple[str, ...] = ()
    lower_is_better: bool | None = None


@dataclass(frozen=True, slots=True)
class Columns:
    """What each column is."""

    metric: str
    lower_is_better: bool
    step: str | None
    run: str | None
    """The column with the runs' names."""
    identity: tuple[str, ...]
    """Where there are no names: columns that tell runs apart."""
    seeds: tuple[str, ...]
    settings: tuple[str, ...]
    """Those that may be: whether they vary, and do not within a run, is not known yet."""
    are_chosen: bool
    """Whether the user named the settings."""
    others: tuple[str, ...]
    """Columns that might be settings, too, and were not named."""
    left_out: Mapping[str, str]
    """Columns that are nothing of these, and why."""


def name_column(rows: Rows, asked: Asked) -> str:
    """Return the column with the runs' names, for patterns. Raises `UserError` where that is not plain."""
    if asked.run:
        rows.check(asked.run, "--run")
        return asked.run
    if rows.known:
        return rows.known.run
    found = next((name for name in NAMES if name in rows.columns), None)
    if found is None:
        raise UserError(f"--pattern: {rows.source} has no column {', '.join(NAMES[:3])} or the like; say --run COLUMN")
    return found


def with_steps(rows: Rows, asked: Asked) -> Rows:
    """Return the rows with a column `step`, where the runs' names end in steps and no column holds them."""
    if asked.step or any(name.lower() in STEPS for name in rows.columns):
        return rows
    for name in [asked.run] if asked.run in rows.columns else NAMES:
        if name in rows.columns and all(steps := [split_step(cell)[1] for cell in rows.column(name)]):
            cells = tuple({**row, "step": step} for row, step in zip(rows.cells, steps, strict=True))
            return replace(rows, columns=(*rows.columns, "step"), cells=cells)
    return rows


def find_columns(rows: Rows, asked: Asked) -> Columns:
    """Return what each column is.

    Raises `UserError` for columns that are not there, and where there is no choosing between several.
    """
    for option, name in (("--metric", asked.metric), ("--step", asked.step), ("--run", asked.run)):
        if name:
            rows.check(name, option)
    for name in asked.settings:
        rows.check(name, "--settings")
    metric = asked.metric or (rows.known.metric if rows.known else _metric(rows))
    step = asked.step or (rows.known.step if rows.known else _step(rows, metric))
    run = asked.run or (rows.known.run if rows.known else _run(rows, metric, step))
    taken = {metric, step, run}
    if wrong := next((name for name in asked.settings if name in taken), None):
        raise UserError(f"--settings {wrong}: is the metric, the step or the name of the runs; leave it out")
    lower = asked.lower_is_better
    seeds = rows.known.seeds if rows.known else tuple(name for name in SEEDS if name in rows.columns)
    settings, left_out = _settings(rows, taken | set(seeds))
    identity = () if run or not step else _identity(rows, (*settings, *seeds), step)
    return Columns(
        metric=metric,
        lower_is_better=bool(words(metric) & LOWER_IS_BETTER) if lower is None else lower,
        step=step,
        run=run,
        identity=identity,
        seeds=tuple(name for name in seeds if name not in asked.settings),
        settings=tuple(dict.fromkeys(asked.settings)) or settings,
        are_chosen=bool(asked.settings),
        others=tuple(name for name in settings if name not in asked.settings) if asked.settings else (),
        left_out={} if asked.settings else left_out,
    )


def words(name: str) -> set[str]:
    """Return the words of a column's name.

    >>> sorted(words("forgetting_nats_per_token"))
    ['forgetting', 'nats', 'per', 'token']
    """
    return set(re.split(r"[^a-z0-9]+", name.lower())) - {""}


def _metric(rows: Rows) -> str:
    numeric = [name for name in rows.columns if any(number(cell) is not None for cell in rows.column(name))]
    for word in METRICS:
        found = [name for name in numeric if word in words(name)]
        if len(found) == 1:
            return found[0]
        if found:
            raise UserError(f"{rows.source}: {' or '.join(found)} could be the metric; name one with --metric")
    raise UserError(
        f"{rows.source}: no column of numbers is called {', '.join(METRICS[:2])} or the like; name the metric with "
        f"--metric ({', '.join(numeric[:12]) or 'there is no column of numbers'})"
    )


def _step(rows: Rows, metric: str) -> str | None:
    return next((name for name in rows.columns if name.lower() in STEPS and name != metric), None)


def _run(rows: Rows, metric: str, step: str | None) -> str | None:
    """The first column called like a name in which a name, with a step, stands for one value."""
    for name in NAMES:
        if name in rows.columns and name not in (metric, step) and all(rows.column(name)):
            values: dict[tuple[str, str], set[str]] = {}
            for cells in rows.cells:
                key = split_step(cells[name])[0], cells[step] if step else ""
                values.setdefault(key, set()).add(cells[metric])
            if all(len(each) == 1 for each in values.values()):
                return name
    return None


def _identity(rows: Rows, columns: tuple[str, ...], step: str) -> tuple[str, ...]:
    """The columns by which each run has the same steps: all, or all but one that remarks on single checkpoints."""
    choices = [columns, *(tuple(each for each in columns if each != name) for name in reversed(columns))]
    return next((each for each in choices if _is_complete(rows, each, step)), columns)


def _is_complete(rows: Rows, columns: tuple[str, ...], step: str) -> bool:
    """Whether each combination has every step once, copied rows aside."""
    distinct = {tuple(cells.values()): cells for cells in rows.cells}.values()
    steps = Counter(tuple(cells[name] for name in columns) for cells in distinct)
    once = {(*(cells[name] for name in columns), cells[step]) for cells in distinct}
    return len(once) == len(distinct) and set(steps.values()) == {len({cells[step] for cells in distinct})}


def _settings(rows: Rows, taken: set[str | None]) -> tuple[tuple[str, ...], dict[str, str]]:
    if rows.known:
        return rows.known.settings, {}
    left_out = {}
    for name in rows.columns:
        if name in taken:
            continue
        is_numeric = all(number(cell) is not None or cell.lower() in NO_NUMBERS for cell in rows.column(name))
        if is_numeric and words(name) & RESULTS and not words(name) & PARTS:
            left_out[name] = "a result"
        elif words(name) & REMARKS:
            left_out[name] = "a remark"
    return tuple(name for name in rows.columns if name not in taken and name not in left_out), left_out
