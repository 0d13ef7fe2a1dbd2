"""What a run came to, in one word and one sentence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from markov_cot.alarms.diagnosis import CAUSE
from markov_cot.alarms.monitor import Event
from markov_cot.analysis.report.held_out import ACCURACY, BASE, SO_FAR
from markov_cot.analysis.report.sources import Source
from markov_cot.evaluation.runs import held_out_key

IMPROVED, NO_EVIDENCE, WORSE, COLLAPSED, UNMEASURED, HEALTHY = (
    "improved",
    "no evidence",
    "worse",
    "collapsed",
    "not measured",
    "healthy",
)
SIGNIFICANT = 0.05
HALF = 0.5
"""Share of its peak under which a held-out accuracy has collapsed."""


def verdict(source: Source, result: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return `word`, `sentence`, and of a collapse its `step`.

    A run has collapsed where its held-out accuracy has fallen under half of its peak, and the two intervals do not
    meet, or where an alarm is critical at its end, in a log alone at any time, and the result is no significant
    improvement. It has improved, or is worse, where the difference of trained and base is significant at 5 %: by
    McNemar's exact test, or, without right and wrong, where the interval leaves out 0.
    """
    direction = _direction(result)
    fall = _fall(source)
    standing = _standing(source) if source.run else source.alarms.critical
    if fall or (standing and direction <= 0):
        return _collapse(fall, standing)
    if result is None:
        if source.run is None:
            sentence = "By what its log holds nothing went wrong; whether it became better is not in it."
            return {"word": HEALTHY, "sentence": sentence, "step": None}
        when = "both before training and after" if held_out_key(source.columns) else "at all"
        sentence = f"There was no validation {when}, so nothing is known of problems that it was not trained on."
        return {"word": UNMEASURED, "sentence": sentence, "step": None}
    stage = " So far, that is: the run has not ended." if result["stage"] == SO_FAR else ""
    alarm = f" But the {standing[0].alarm} alarm is critical." if standing else ""
    other = "its base" if result["against"] == BASE else "the adapter that it started from"
    word, sentence = {
        1: (IMPROVED, f"The trained actor is better than {other} on unseen problems."),
        0: (NO_EVIDENCE, "There is no evidence that training changed the held-out score."),
        -1: (WORSE, f"The trained actor is worse than {other} on unseen problems."),
    }[direction]
    return {"word": word, "sentence": sentence + stage + alarm, "step": None}


def _direction(result: Mapping[str, Any] | None) -> int:
    """1 where the held-out score has risen significantly, -1 where it has fallen, else 0."""
    if result is None:
        return 0
    found = result["difference"]
    if found is None:  # answers were not kept: by intervals that do not meet, which asks for more
        base, trained = result["base"], result["trained"]
        if result["measure"] != ACCURACY or None in (base["low"], trained["low"]):
            return 0
        return int(trained["low"] > base["high"]) - int(trained["high"] < base["low"])
    if found["p_value"] is None:
        return int(found["low"] > 0) - int(found["high"] < 0)
    if found["p_value"] >= SIGNIFICANT:
        return 0
    return 1 if found["difference"] > 0 else -1


def _fall(source: Source) -> dict[str, Any] | None:
    """The first validation after the peak at which the accuracy is under half of it and stays so to the end."""
    key = held_out_key(source.columns)
    if key is None or not key.endswith(f"/{ACCURACY}"):
        return None
    accuracy = source.columns[key]
    lows, highs = (source.columns.get(f"{key}_{end}", {}) for end in ("low", "high"))
    peak = max(accuracy, key=lambda step: (accuracy[step], -step))

    def has_fallen(step: int) -> bool:
        return accuracy[step] < HALF * accuracy[peak] and highs.get(step, 1.0) < lows.get(peak, 0.0)

    after = [step for step in accuracy if step > peak]
    if not after or not has_fallen(after[-1]):
        return None
    since = after[-1]
    for step in reversed(after):
        if not has_fallen(step):
            break
        since = step
    return {"step": since, "peak_step": peak, "key": key}


def _standing(source: Source) -> list[Event]:
    """Alarms that are critical at a run's end, in the order in which they became so.

    What a rollback undid, which is all but what stopped the run at its last step, is over.
    """
    rolls_back = source.setting("alarms.action") == "rollback"
    last: dict[str, Event] = {}
    for event in source.events:
        if rolls_back and event.step < source.alarms.last_step:
            continue
        if not (event.is_critical and event.alarm in last and last[event.alarm].is_critical):
            last.pop(event.alarm, None)
            last[event.alarm] = event
    return [event for event in last.values() if event.is_critical]


def _collapse(fall: Mapping[str, Any] | None, standing: list[Event]) -> dict[str, Any]:
    """By the earliest of what is seen."""
    first = min(standing, key=lambda event: event.since, default=None)
    if first and (fall is None or first.since <= fall["step"]):
        seen = first.diagnosis.partition(CAUSE)[0].partition(" Example CoT:")[0].partition(" There is no sample CoT")[0]
        return {"word": COLLAPSED, "sentence": seen.strip(), "step": first.since}
    sentence = "The held-out accuracy fell under half of its peak and stayed there."
    return {"word": COLLAPSED, "sentence": sentence, "step": fall["step"] if fall else None}
