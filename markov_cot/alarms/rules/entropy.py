"""An entropy that collapses, or that blows up."""

from __future__ import annotations

import math
from collections.abc import Iterator

from markov_cot.alarms.alarm import Alarm, Context, Row, Text, number
from markov_cot.alarms.changes import BACK, LOWER_CLIP, LOWER_LR, PULL_BACK
from markov_cot.alarms.gauge import Reading
from markov_cot.config.alarms import EntropyLevels


def entropy(row: Row, context: Context) -> Iterator[Reading]:
    """Collapse of the actor's entropy to zero, or its jump to noise, against its start."""
    levels: EntropyLevels = context.levels
    value = number(row, "policy/entropy")
    if value is None:
        return
    base = context.base("policy/entropy", value)
    seen = {"policy/entropy": value, "start": base}
    if base > 0:
        fall = math.log(base / value) if value > 0 else math.inf
        yield Reading("fall", "fall", fall, levels.warn, levels.critical, levels.hard, seen)
    rise = value - base
    yield Reading("rise", "rise", rise, levels.rise_warn, levels.rise_critical, levels.rise_hard, seen)


ENTROPY = Alarm(
    name="entropy",
    levels=EntropyLevels(),
    rule=entropy,
    texts={
        "fall": Text(
            "The actor's entropy is {policy/entropy:.2g} nats per token, from {start:.2g} at the start",
            "The policy has become deterministic: all samples of a group will be the same, and nothing can be learnt "
            "from them.",
            (PULL_BACK, "Or raise <rollout.temperature>."),
        ),
        "rise": Text(
            "The actor's entropy rose to {policy/entropy:.2g} nats per token, from {start:.2g} at the start",
            "The policy is turning into noise, as after updates that are far too large.",
            (LOWER_LR, LOWER_CLIP, "Raise <optim.warmup_steps>.", BACK),
        ),
    },
    reads=("policy/entropy",),
)
