"""CoTs that repeat themselves."""

from __future__ import annotations

from collections.abc import Iterator

from markov_cot.alarms.alarm import Alarm, Context, Row, Text, number
from markov_cot.alarms.changes import PULL_BACK
from markov_cot.alarms.gauge import Reading
from markov_cot.config.alarms import RepetitionLevels

KEYS = ("cot/repetition", "cot/longest_run", "cot/distinct", "cot/compression")


def repetition(row: Row, context: Context) -> Iterator[Reading]:
    """How much of the way from the base's value to nothing but repetition the CoTs have gone, by four measures."""
    levels: RepetitionLevels = context.levels
    for key in KEYS:
        value = number(row, key)
        if value is None:
            continue
        base = context.base(key, value)
        if key == "cot/distinct":
            way = (base - value) / base if base > 0 else 0.0
        elif key == "cot/compression":
            way = 1 - base / value if value > 0 else 0.0
        else:
            way = (value - base) / (1 - base) if base < 1 else 0.0
        seen = {"value": value, "base": base, "way": way}
        yield Reading(key, "repetition", way, levels.warn, levels.critical, levels.hard, seen, key)


REPETITION = Alarm(
    name="repetition",
    levels=RepetitionLevels(),
    rule=repetition,
    texts={
        "repetition": Text(
            "{what} is {value:.3g}, against {base:.3g} for the base: {way:.0%} of the way to nothing but repetition",
            "The CoTs loop or repeat one token: the policy is collapsing, or <rollout.length> is longer than the "
            "problems need and the rest is filled up.",
            (PULL_BACK, "If the reward is fine, shorten <rollout.length>."),
        ),
    },
    reads=KEYS,
)
