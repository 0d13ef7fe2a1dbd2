"""CoTs that no longer state the answer, while the reward falls, or rises all the same."""

from __future__ import annotations

import math
from collections.abc import Iterator

from markov_cot.alarms.alarm import Alarm, Context, Row, Text, number
from markov_cot.alarms.changes import BACK, KEEP_BEST, PULL_BACK
from markov_cot.alarms.gauge import Reading
from markov_cot.alarms.reward_trend import REWARDS, reward_trend
from markov_cot.alarms.smoothing import REWARD_DECAY, smooth
from markov_cot.config.alarms import UnstatedLevels

KEY = "cot/answer_in_cot"
FAST_DECAY = 0.7
"""Faster than the reward's: that no CoT at all states the answer shows sooner than a change of a small share does."""


def unstated(row: Row, context: Context) -> Iterator[Reading]:
    """Share of CoTs that state the answer, against the reward: gone while the reward falls, or rises all the same.

    Where CoTs never stated it, as with answers that are whole texts, the alarm only warns. Batches are small and
    questions differ, so a rise or fall of the reward counts beyond what its own noise explains.
    """
    levels: UnstatedLevels = context.levels
    memory = context.memory
    share = number(row, KEY)
    if share is None:
        return
    stated, lately = smooth(memory, "stated", share, REWARD_DECAY), smooth(memory, "lately", share, FAST_DECAY)
    best = memory["best"] = max(memory.get("best", 0.0), stated)
    reward = reward_trend(row, memory)
    if reward is None:
        return
    margin = levels.noise * reward.error
    seen = {"rise": reward.rise, "smoothed": reward.now, "stated": stated, "best": best}
    rise = reward.rise if stated <= levels.none else 0.0
    ever = best > levels.none
    critical = levels.critical + margin if ever else math.inf
    yield Reading("rise", "lost" if ever else "never", rise, levels.warn + margin, critical, seen=seen)
    seen = {"lately": lately, "best": best, "fall": reward.fall}
    is_worse = best >= levels.often and reward.fall > margin
    gone = 1 - lately / best if is_worse else 0.0
    yield Reading("gone", "gone", gone, levels.gone_warn, levels.gone_critical, seen=seen)


_RISE = "The smoothed reward rose by {rise:.2f} nats to {smoothed:.2f}"
_CAUSE = (
    "The reader gets the answer from something that is not a statement of it: a guess that hedges well, or a code "
    "between actor and reader."
)

UNSTATED = Alarm(
    name="unstated",
    levels=UnstatedLevels(),
    rule=unstated,
    texts={
        "lost": Text(
            _RISE + " while the share of CoTs that state the answer fell to {stated:.3f}, from {best:.3f} at its best",
            _CAUSE,
            ("Read the samples.", PULL_BACK, KEEP_BEST, "Or use another reader."),
        ),
        "never": Text(
            _RISE + ", and no CoT has ever stated the answer",
            _CAUSE + " Where answers are whole texts, it is how it should be.",
            ("Read the samples.", "markov-cot probe says whether the CoT carries the answer."),
        ),
        "gone": Text(
            "The share of CoTs that state the answer fell to {lately:.3f}, from {best:.3f} at its best, and the "
            "smoothed reward is {fall:.2f} nats below its best",
            "The policy has lost the way to the answer: a collapse often shows there first.",
            (PULL_BACK, BACK),
        ),
    },
    reads=tuple(f"{KEY} and {key}" for key in REWARDS),
)
