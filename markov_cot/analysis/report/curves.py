"""What is drawn over the steps, and the table at the steps that matter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markov_cot.alarms.monitor import Event
from markov_cot.analysis.report.sources import Columns, Source
from markov_cot.evaluation.runs import held_out_key

CURVES: tuple[tuple[str, tuple[str, ...], str], ...] = (
    ("Reward", ("reward/answer_logprob", "reward/baseline_logprob"), "nats per answer token"),
    ("KL to the reference", ("policy/kl",), "nats per CoT token"),
    ("Entropy", ("policy/entropy",), "nats per CoT token"),
    ("Ratio", ("policy/reference_ratio", "ppo/ratio_max"), "probability ratio"),
    ("Repetition", ("cot/repetition", "cot/longest_run"), "share of the CoT"),
    ("Answer in the CoT", ("cot/answer_in_cot", "leak/answer_first"), "share of the CoTs"),
    ("Copied from the question", ("cot/copied",), "share of the 4-grams"),
    ("Loss", ("loss/total",), "nats"),
)
"""Title, metrics and unit of what is drawn besides the held-out score, as far as the log has it."""
AT_KEY_STEPS = (
    "reward/answer_logprob",
    "reward/normalized",
    "reward/group_std",
    "policy/kl",
    "policy/entropy",
    "policy/reference_ratio",
    "ppo/ratio_max",
    "cot/repetition",
    "cot/compression",
    "cot/answer_in_cot",
    "cot/copied",
    "leak/answer_first",
    "optim/grad_norm",
    "loss/total",
)
"""Metrics of the table, under the held-out score."""
POINTS = 500
"""Most points of a curve; of a longer one every k-th step is drawn, and the last."""


def curves(source: Source) -> list[dict[str, Any]]:
    """Return what is drawn: for each curve its title, unit, and series of steps and values, with a band or none."""
    columns, key = source.columns, held_out_key(source.columns)
    drawn = []
    if key:
        unit = "share right" if key.endswith("/accuracy") else "nats"
        drawn.append(_curve("Held-out score", (key,), unit, columns))
    drawn += [_curve(title, keys, unit, columns) for title, keys, unit in CURVES]
    return [curve for curve in drawn if curve["series"]]


def _curve(title: str, keys: Sequence[str], unit: str, columns: Columns) -> dict[str, Any]:
    return {"title": title, "unit": unit, "series": [_series(key, columns) for key in keys if key in columns]}


def _series(key: str, columns: Columns) -> dict[str, Any]:
    steps = _thinned(list(columns[key]))
    low, high = columns.get(f"{key}_low", {}), columns.get(f"{key}_high", {})
    has_band = bool(steps) and all(step in low and step in high for step in steps)
    return {
        "key": key,
        "steps": steps,
        "values": [columns[key][step] for step in steps],
        "low": [low[step] for step in steps] if has_band else None,
        "high": [high[step] for step in steps] if has_band else None,
    }


def _thinned(steps: list[int]) -> list[int]:
    every = -(-len(steps) // POINTS)
    return steps if every <= 1 else sorted({*steps[::every], steps[-1]})


def key_steps(source: Source, result: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """Return the metrics at the start, the best validation, the first alarm and the end: the table's columns.

    A metric that is not logged at such a step is taken from the nearest step before it that has it, else after it.
    """
    columns = source.columns
    steps = sorted({step for column in columns.values() for step in column})
    if not steps:
        return []
    trained = [step for step in steps if step > 0] or steps
    wanted: dict[str, int | None] = {
        "start": trained[0],
        "best": result["best_step"] if result else None,
        "first alarm": _first_raised(source.events),
        "end": trained[-1],
    }
    key = held_out_key(columns)
    names = [*([key] if key else []), *AT_KEY_STEPS]
    return [
        {
            "label": label,
            "step": step,
            "metrics": {
                name: _at(columns[name], 0 if label == "start" and name == key else step)
                for name in names
                if name in columns
            },
        }
        for label, step in wanted.items()
        if step is not None
    ]


def _first_raised(events: Sequence[Event]) -> int | None:
    return next((event.step for event in events if event.is_raised), None)


def _at(column: Mapping[int, float], step: int) -> float:
    before = [each for each in column if each <= step]
    return column[max(before) if before else min(column)]
