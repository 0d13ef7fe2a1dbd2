"""A KL divergence that is large, or that leaps."""

from __future__ import annotations

from collections.abc import Iterator

from markov_cot.alarms.alarm import Alarm, Context, Row, Text, number
from markov_cot.alarms.changes import BACK, LOWER_CLIP, PULL_BACK
from markov_cot.alarms.gauge import Reading
from markov_cot.alarms.smoothing import smooth
from markov_cot.config.alarms import KlLevels

KL_DECAY = 0.8
"""Questions differ in their KL, so with few of them a step a single row says little of a rise."""


def kl(row: Row, context: Context) -> Iterator[Reading]:
    """KL divergence of the actor from the reference per token: its size, and a rise faster than its pace.

    Slow drift is how training works, and a jump is how collapses begin, long before the size itself is alarming.
    """
    levels: KlLevels = context.levels
    memory = context.memory
    value = number(row, "policy/kl")
    if value is None:
        return
    seen = {"policy/kl": value}
    yield Reading("kl", "kl", value, levels.warn, levels.critical, levels.hard, seen)
    smoothed = smooth(memory, "kl", value, KL_DECAY)
    steps = max(0, context.step - memory.get("step", context.step))
    paced = memory["paced"] = min(smoothed, memory.get("paced", smoothed) + levels.pace * steps)
    memory["step"] = context.step
    rise = smoothed - paced
    seen = {"policy/kl": value, "rise": rise}
    yield Reading("rise", "rise", rise, levels.rise_warn, levels.rise_critical, seen=seen)


KL = Alarm(
    name="kl",
    levels=KlLevels(),
    rule=kl,
    texts={
        "kl": Text(
            "The KL divergence from the reference is {policy/kl:.3g} nats per token",
            "The policy has left it faster than any useful reasoning asks for.",
            (PULL_BACK, BACK),
        ),
        "rise": Text(
            "The KL divergence from the reference leapt to {policy/kl:.3g} nats per token, on average {rise:.2g} above "
            "the slow rise that training explains",
            "The updates are too large; collapses begin like this.",
            (PULL_BACK, LOWER_CLIP, BACK),
        ),
    },
    reads=("policy/kl",),
)
