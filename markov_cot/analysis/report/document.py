"""The whole of a report as JSON: every number that a page shows stands in it, and comes from a run's files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from markov_cot.analysis.report import cots, curves, groups, held_out, origin, stages
from markov_cot.analysis.report.advice import advise
from markov_cot.analysis.report.comparison import comparison
from markov_cot.analysis.report.sources import Source
from markov_cot.analysis.report.verdict import verdict
from markov_cot.evaluation.runs import read_run
from markov_cot.utils.json_values import finite_or_null

FORMAT = 1
LEVEL = 95
"""Percent, of all intervals."""
MOST_COTS = 2_000
MOST_ALARMS = 50
LONGEST_KEY = 300
"""Characters; a page has each value's place, and what other files hold may be of any size."""


def report(sources: Sequence[Source], most_cots: int = MOST_COTS) -> dict[str, Any]:
    """Return the document of one report on these runs and logs, `most_cots` shared between them.

    Raises `UserError` for files that cannot be read.
    """
    runs = [_run(source, most_cots // len(sources), cots.PAGE // len(sources)) for source in sources]
    document = {"format": FORMAT, "level": LEVEL, "comparison": comparison(sources), "runs": runs}
    found: dict[str, Any] = _with_short_keys(finite_or_null(document))
    return found


def _with_short_keys(value: Any) -> Any:
    if isinstance(value, dict):
        return {key[:LONGEST_KEY]: _with_short_keys(each) for key, each in value.items()}
    return [_with_short_keys(each) for each in value] if isinstance(value, list) else value


def _run(source: Source, most_cots: int, page: int) -> dict[str, Any]:
    """One run: what was trained, what came of it, and why."""
    about = origin.environment(source)
    settings = origin.settings(source, about.get("recipe"))
    result = held_out.result(source)
    found = stages.stages(source)
    judged = verdict(source, result)
    at = curves.key_steps(source, result)
    alarms = _alarms(source)
    return {
        "name": source.name,
        "kind": "run" if source.run else "log",
        "method": source.setting("method", "rl") if source.run else None,
        "model": source.setting("model.name"),
        "dataset": source.setting("data.dataset"),
        "markovian": source.setting("prompt.markovian"),
        "length": source.setting("rollout.length"),
        "planned_steps": source.setting("steps"),
        "state": read_run(source.run.folder).state if source.run else None,
        "last_step": source.alarms.last_step,
        "verdict": judged,
        "result": result,
        "reader": _reader(source),
        "cost": origin.cost(source, about),
        "settings": settings,
        "curves": curves.curves(source),
        "alarms": alarms[:MOST_ALARMS],
        "more_alarms": max(0, len(alarms) - MOST_ALARMS),
        "judged": source.alarms.judged,
        "key_steps": at,
        "examples": cots.examples(source, {each["label"]: each["step"] for each in at}),
        "texts": cots.texts(source),
        "groups": groups.groups(source),
        "stages": found,
        "occlusions": stages.occlusions(source),
        "advice": advise(source, result, judged, found),
        "missing": stages.missing(found, source),
        "reproduction": origin.reproduction(source, settings, about),
        "cots": cots.browsed(source, most_cots, page),
    }


def _reader(source: Source) -> dict[str, float] | None:
    """Accuracy and log-prob of the reader with a stated answer and with none, at the start."""
    keys = ("reader/ceiling", "reader/floor", "reader/ceiling_logprob", "reader/floor_logprob")
    found = {key: next(iter(source.columns[key].values())) for key in keys if key in source.columns}
    return found or None


def _alarms(source: Source) -> list[dict[str, Any]]:
    keys = ("alarm", "level", "step", "since", "diagnosis")
    return [{key: getattr(event, key) for key in keys} for event in source.events]
