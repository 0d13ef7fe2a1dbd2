"""A held-out accuracy that falls while the reward does not."""

from __future__ import annotations

import math
from collections.abc import Iterator

from markov_cot.alarms.alarm import Alarm, Context, Row, Text, number
from markov_cot.alarms.changes import FEWER_STEPS, KEEP_BEST, PULL_BACK
from markov_cot.alarms.gauge import Reading
from markov_cot.alarms.smoothing import REWARD_DECAY, smooth, start
from markov_cot.config.alarms import DivergenceLevels

SMALLEST_FALL = 0.1
"""Fall of an accuracy without an interval that is taken for more than chance."""
TOLERANCE = 0.25
"""Nats by which the reward may be below what it was at the accuracy's peak and still count as not fallen."""


def divergence(row: Row, context: Context) -> Iterator[Reading]:
    """Held-out accuracy that falls beyond its interval while the reward it was trained on does not."""
    levels: DivergenceLevels = context.levels
    memory = context.memory
    reward_now = number(row, "reward/answer_logprob")
    if reward_now is not None:
        start(memory, "reward", reward_now)
        memory["reward"] = smooth(memory, "reward", reward_now, REWARD_DECAY)
    for key in row:
        if not (key.startswith("eval/") and key.endswith("/accuracy")):
            continue
        accuracy = number(row, key)
        if accuracy is None:
            continue
        low, high = number(row, key + "_low"), number(row, key + "_high")
        if accuracy >= memory.get(key + ".peak", -math.inf):
            memory[key + ".peak"] = accuracy
            memory[key + ".low"] = accuracy - SMALLEST_FALL if low is None else low
            if "reward" in memory:
                memory[key + ".reward"] = memory["reward"]
        peak = memory[key + ".peak"]
        beyond = (accuracy if high is None else high) < memory[key + ".low"]
        fall = (peak - accuracy) / peak if beyond and peak > 0 else 0.0
        then = memory.get(key + ".reward", memory.get("reward.start", math.inf))
        hacked = memory.get("reward", -math.inf) >= then - TOLERANCE
        critical = levels.critical if hacked else levels.hard
        seen = {"accuracy": accuracy, "peak": peak}
        if "reward" in memory:
            seen |= {"reward": memory["reward"], "reward_then": then}
        kind = "hacking" if hacked else "accuracy"
        yield Reading(key, kind, fall, levels.warn, critical, levels.hard, seen, key)


DIVERGENCE = Alarm(
    name="divergence",
    levels=DivergenceLevels(),
    rule=divergence,
    texts={
        "hacking": Text(
            "{what} fell to {accuracy:.3f} from its peak of {peak:.3f}, beyond its interval, while the training reward "
            "did not fall ({reward_then:.2f} then, {reward:.2f} now, nats)",
            "The policy earns reward by something other than reasoning well, such as hedging so that the reader is "
            "never confidently wrong.",
            (KEEP_BEST, PULL_BACK, FEWER_STEPS, "Or use a stronger reader."),
        ),
        "accuracy": Text(
            "{what} fell to {accuracy:.3f} from its peak of {peak:.3f}, beyond its interval",
            "The policy answers unseen problems worse than it did.",
            (KEEP_BEST, PULL_BACK, FEWER_STEPS),
        ),
    },
    reads=("eval/<dataset>/accuracy",),
)
