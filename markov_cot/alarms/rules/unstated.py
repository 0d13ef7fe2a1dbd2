"""A reward that rises while no CoT states the answer."""

from __future__ import annotations

import math
from collections.abc import Iterator

from markov_cot.alarms.alarm import Alarm, Context, Row, Text, number
from markov_cot.alarms.changes import KEEP_BEST, PULL_BACK
from markov_cot.alarms.gauge import Reading
from markov_cot.alarms.reward_trend import REWARDS, reward_trend
from markov_cot.alarms.smoothing import REWARD_DECAY, smooth
from markov_cot.config.alarms import UnstatedLevels


def unstated(row: Row, context: Context) -> Iterator[Reading]:
    """Rise of the smoothed reward above its start, where about no CoT states the answer.

    Where CoTs never stated it, as with answers that are whole texts, the alarm only warns. Batches are small and
    questions differ, so the levels are raised by what the reward's own noise explains.
    """
    levels: UnstatedLevels = context.levels
    memory = context.memory
    share = number(row, KEY)
    if share is None:
        return
    stated = smooth(memory, "stated", share, REWARD_DECAY)
    best = memory["best"] = max(memory.get("best", 0.0), stated)
    reward = reward_trend(row, memory)
    if reward is None:
        return
    ever = best > levels.none
    margin = levels.noise * reward.error
    critical = levels.critical + margin if ever else math.inf
    seen = {"rise": reward.rise, "smoothed": reward.now, "stated": stated, "best": best}
    rise = reward.rise if stated <= levels.none else 0.0
    yield Reading("rise", "lost" if ever else "never", rise, levels.warn + margin, critical, seen=seen)


KEY = "cot/answer_in_cot"
_RISE = "The smoothed reward rose by {rise:.2f} nats to {smoothed:.2f}"
_CAUSE = (
    "he reader gets the answer from something that is not a statement of it: a guess that hedges well, or a code "
    "between actor and reader."
)

UNSTATED = Alarm(
    name="unstated",
    levels=UnstatedLevels(),
    rule=unstated,
    texts={
        "lost": Text(
            _RISE + " while the share of CoTs that state the answer fell to {stated:.3f}, from {best:.3f} at its best",
            "T" + _CAUSE,
            ("Read the samples.", PULL_BACK, KEEP_BEST, "Or use another reader."),
        ),
        "never": Text(
            _RISE + ", and no CoT has ever stated the answer",
            "Where answers are whole texts that is how it should be. Elsewhere t" + _CAUSE,
            ("Read the samples.", "markov-cot probe says whether the CoT carries the answer."),
        ),
    },
    reads=tuple(f"{KEY} and {key}" for key in REWARDS),
)
