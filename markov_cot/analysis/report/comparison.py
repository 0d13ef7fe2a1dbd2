"""Several runs of one report held against each other: what `compare` finds, and its curves laid over one another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markov_cot.analysis.compare import compare_runs
from markov_cot.analysis.report.sources import Source

TITLES = {
    "eval/accuracy": ("Held-out score", "share right"),
    "eval/answer_logprob": ("Held-out score", "nats"),
    "reward/value": ("Reward", "the reward's own unit"),
    "reward/normalized": ("Reward less baseline", "nats per answer token"),
    "policy/kl": ("KL to the reference", "nats per CoT token"),
    "policy/entropy": ("Entropy", "nats per CoT token"),
    "cot/repetition": ("Repetition", "share of the 4-grams"),
    "cot/answer_in_cot": ("Answer in the CoT", "share of the CoTs"),
}
"""Title and unit of a curve."""


def comparison(sources: Sequence[Source]) -> dict[str, Any] | None:
    """Return the comparison of all that are runs, with its curves as they are drawn; None of fewer than two."""
    folders = [str(source.run.folder) for source in sources if source.run]
    if len(folders) < 2:
        return None
    found = compare_runs(folders).as_json()
    return found | {"curves": [_drawn(curve) for curve in found["curves"]]}


def _drawn(curve: Mapping[str, Any]) -> dict[str, Any]:
    """A line with a band for the seeds of a setting, from the lowest to the highest; a line for each other run."""
    pooled = {run for each in curve["pooled"] for run in each["runs"]}
    series = [
        {"name": f"mean of {', '.join(each['runs'])}", "steps": each["step"], "values": each["mean"], **_band(each)}
        for each in curve["pooled"]
    ]
    series += [
        {"name": name, "steps": each["step"], "values": each["value"], **_band(each)}
        for name, each in curve["runs"].items()
        if name not in pooled
    ]
    title, unit = TITLES[curve["key"]]
    return {"title": title, "unit": unit, "data": curve["data"], "series": [{"key": curve["key"], **s} for s in series]}


def _band(of: Mapping[str, Any]) -> dict[str, Any]:
    return {"low": of.get("low"), "high": of.get("high")}
