"""How the reward stands to its start and its best, for alarms that look at something else beside it."""

from __future__ import annotations

from typing import NamedTuple

from markov_cot.alarms.alarm import Row, number
from markov_cot.alarms.smoothing import REWARD_DECAY, WARM_UP, Memory, count, noise, smooth, smoothed_error, start

REWARDS = ("reward/answer_logprob", "reward/normalized")
"""In nats; the first that a row has."""


class Trend(NamedTuple):
    """The smoothed reward, in nats."""

    now: float
    rise: float
    """Above the mean of its first rows."""
    fall: float
    """Below its best."""
    error: float
    """Standard error that its noise from row to row explains."""


def reward_trend(row: Row, memory: Memory) -> Trend | None:
    """Take in a row's reward; return how it stands, once there were `WARM_UP` rows before."""
    reward = next((value for key in REWARDS if (value := number(row, key)) is not None), None)
    if reward is None:
        return None
    began = start(memory, "reward", reward, WARM_UP)
    now = smooth(memory, "reward", reward, REWARD_DECAY)
    error = smoothed_error(noise(memory, "reward", reward), REWARD_DECAY)
    if count(memory, "reward") < WARM_UP:
        return None
    best = memory["reward.best"] = max(memory.get("reward.best", now), now)
    return Trend(now, now - began, best - now, error)
