"""How far the actor is from the policies it is compared with."""

from __future__ import annotations

import math
from collections.abc import Iterator

from markov_cot.alarms.alarm import Alarm, Context, Row, Text, number
from markov_cot.alarms.changes import BACK, FEWER_EPOCHS, LOWER_CLIP, LOWER_LR, PULL_BACK
from markov_cot.alarms.gauge import Reading
from markov_cot.config.alarms import RatioLevels


def ratio(row: Row, context: Context) -> Iterator[Reading]:
    """Drift from the reference, and PPO's ratio to the policy that sampled."""
    levels: RatioLevels = context.levels
    if (value := number(row, "policy/reference_ratio")) is not None:
        seen = {"policy/reference_ratio": value}
        yield Reading("drift", "drift", _log_distance(value), levels.warn, levels.critical, levels.hard, seen)
    if (value := number(row, "ppo/ratio_mean")) is not None:
        seen = {"ppo/ratio_mean": value}
        yield Reading("mean", "mean", _log_distance(value), levels.mean_warn, levels.mean_critical, seen=seen)
    if (value := number(row, "ppo/ratio_max")) is not None:
        seen = {"ppo/ratio_max": value}
        yield Reading("max", "max", value, levels.max_warn, levels.max_critical, seen=seen)
    if (value := number(row, "ppo/clip_fraction")) is not None:
        seen = {"ppo/clip_fraction": value}
        yield Reading("clip", "clip", value, levels.clip_warn, levels.clip_critical, seen=seen)


def _log_distance(ratio: float) -> float:
    """How far a ratio is from 1, in nats."""
    return abs(math.log(ratio)) if ratio > 0 else math.inf


RATIO = Alarm(
    name="ratio",
    levels=RatioLevels(),
    rule=ratio,
    texts={
        "drift": Text(
            "The actor gives the tokens of its CoTs {policy/reference_ratio:.3g} times the probability that the "
            "reference gives them (geometric mean per token; 1 at the start)",
            "The policy has drifted away from the reference, where the reader can no longer read it; it is the usual "
            "forerunner of a collapse.",
            (PULL_BACK, BACK),
        ),
        "mean": Text(
            "The mean ratio of the updated policy to the one that sampled is {ppo/ratio_mean:.3g}, and should be "
            "near 1",
            "The update goes far beyond what the samples support, or the log-probs of sampling and of scoring "
            "disagree.",
            (LOWER_LR, FEWER_EPOCHS, "See that rollout/logprob_gap is within rounding."),
        ),
        "max": Text(
            "One token became {ppo/ratio_max:.3g} times as probable within a step as when it was sampled",
            "Single tokens dominate the update.",
            (LOWER_LR, LOWER_CLIP, FEWER_EPOCHS),
        ),
        "clip": Text(
            "A share of {ppo/clip_fraction:.2f} of the tokens lies beyond the clip range",
            "The inner epochs move the policy further than the clip allows, so most samples have no gradient left.",
            (LOWER_LR, FEWER_EPOCHS),
        ),
    },
    reads=("policy/reference_ratio", "ppo/ratio_mean", "ppo/ratio_max", "ppo/clip_fraction"),
)
