"""A reward that falls below its best, or below the base's."""

from __future__ import annotations

from collections.abc import Iterator

from markov_cot.alarms.alarm import Alarm, Context, Row, Text, number
from markov_cot.alarms.changes import BACK, PULL_BACK
from markov_cot.alarms.gauge import Reading
from markov_cot.alarms.smoothing import REWARD_DECAY, WARM_UP, Memory, count, noise, smooth, smoothed_error, start
from markov_cot.config.alarms import RewardLevels


def reward(row: Row, context: Context) -> Iterator[Reading]:
    """Fall of the smoothed reward below its best and below the base's, and of a single row far below either.

    Batches are small and questions differ, so the levels are raised by what the reward's own noise explains.
    """
    levels: RewardLevels = context.levels
    memory = context.memory
    answer, normalized = number(row, "reward/answer_logprob"), number(row, "reward/normalized")
    base = number(row, "reward/baseline_logprob")
    if base is None and answer is not None and normalized is not None:
        base = answer - normalized
    if base is not None:
        memory["base"] = base
    for key, value in (("reward/answer_logprob", answer), ("reward/normalized", normalized)):
        if value is None:
            continue
        yield _plunge(key, value, levels, memory)
        start(memory, key, value)
        smoothed = smooth(memory, key, value, REWARD_DECAY)
        margin = levels.noise * smoothed_error(noise(memory, key, value), REWARD_DECAY)
        if count(memory, key) < WARM_UP:
            continue
        best = memory[key + ".best"] = max(memory.get(key + ".best", smoothed), smoothed)
        seen = {"smoothed": smoothed, "best": best, "fall": best - smoothed}
        warn, critical = levels.warn + margin, levels.critical + margin
        yield Reading(f"fall.{key}", "fall", best - smoothed, warn, critical, seen=seen, what=key)
        if key == "reward/normalized":
            reference = min(0.0, memory[key + ".start"])
            below = reference - smoothed
            seen = {"smoothed": smoothed, "reference": reference, "below": below}
            yield Reading("base", "base", below, warn, critical, seen=seen, what=key)


def _plunge(key: str, value: float, levels: RewardLevels, memory: Memory) -> Reading:
    """One row against the best so far, or where that is not known yet, against the base or the start."""
    base = memory.get("base")
    known = [memory[name] for name in (key + ".best", key + ".start") if name in memory][:1]
    if key == "reward/normalized":
        known.append(0.0)
    elif base is not None:
        known.append(base)
    reference = max(known, default=value)
    hard = max(levels.hard, abs(memory.get("reward/answer_logprob.start", 0.0) if base is None else base))
    below = reference - value
    seen = {"value": value, "reference": reference, "below": below}
    return Reading(f"plunge.{key}", "plunge", below, hard, hard, hard, seen, key)


REWARD = Alarm(
    name="reward",
    levels=RewardLevels(),
    rule=reward,
    texts={
        "fall": Text(
            "The smoothed {what} is {smoothed:.2f} nats, {fall:.2f} below its best of {best:.2f}, which is more than "
            "its noise explains",
            "Training undoes what it had learnt.",
            (
                PULL_BACK,
                "Or average over more samples with <rollout.problems> and <rollout.samples>.",
                "The checkpoint `best` is of before the fall.",
            ),
        ),
        "base": Text(
            "The smoothed {what} is {smoothed:.2f} nats, {below:.2f} below the base's (or below where it began, "
            "{reference:.2f}), which is more than its noise explains",
            "The CoTs help the reader less than those of the untrained base do.",
            (PULL_BACK, "Look at the samples; the run has lost what the base could do."),
        ),
        "plunge": Text(
            "{what} is {value:.2f} nats, {below:.1f} below {reference:.2f} (its best, or the base)",
            "The CoTs have become worse than useless: after them the true answer is next to impossible. It is what a "
            "collapsed policy looks like.",
            (BACK, PULL_BACK, "Or lower <algorithm.actor_reward_weight> if it is not 0."),
        ),
    },
    reads=("reward/answer_logprob", "reward/normalized"),
)
