"""Groups whose samples all get the same reward."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from markov_cot.alarms.alarm import Alarm, Context, Row, Text, number
from markov_cot.alarms.changes import Changes
from markov_cot.alarms.gauge import Reading
from markov_cot.alarms.smoothing import REWARD_DECAY, smooth
from markov_cot.config.alarms import DeadGroupsLevels

DEAD_DECAY = 0.95
SAMPLES_FACTOR = 2


def dead_groups(row: Row, context: Context) -> Iterator[Reading]:
    """Groups that teach nothing. Where the reward is at its ceiling they are the sign of success: no critical alarm."""
    levels: DeadGroupsLevels = context.levels
    memory = context.memory
    answer = number(row, "reward/answer_logprob")
    if answer is not None:
        memory["reward"] = smooth(memory, "reward", answer, REWARD_DECAY)
    share = number(row, "reward/zero_variance_share")
    dead = number(row, "reward/zero_variance_groups")
    if share is None and dead is not None and context.problems:
        share = dead / context.problems
    if share is None:
        return
    smoothed = smooth(memory, "share", share, DEAD_DECAY)
    solved = memory.get("reward", -math.inf) > -levels.solved
    critical = math.inf if solved else levels.critical
    kind = "solved" if solved else "dead"
    yield Reading("share", kind, smoothed, levels.warn, critical, seen={"reward/zero_variance_share": smoothed})


def more_samples(settings: Mapping[str, Any]) -> Changes:
    """Return more samples a question, so that fewer groups agree by chance."""
    return {"rollout.samples": settings["rollout.samples"] * SAMPLES_FACTOR}


DEAD_GROUPS = Alarm(
    name="dead_groups",
    levels=DeadGroupsLevels(),
    rule=dead_groups,
    texts={
        "dead": Text(
            "A share of {reward/zero_variance_share:.2f} of the groups has no variance in its rewards",
            "Every sample of a group gets the same reward, so the run costs time and learns nothing: problems that are "
            "all too hard or too easy, or a policy that always writes the same.",
            (
                "Use problems of another difficulty, more samples (<rollout.samples>) or a higher "
                "<rollout.temperature>; <algorithm.sigma_floor> says what counts as no variance.",
            ),
        ),
        "solved": Text(
            "A share of {reward/zero_variance_share:.2f} of the groups has no variance, at a reward near its ceiling",
            "The problems are solved; there is little left to learn from them.",
            ("Stop, or continue with harder problems.",),
        ),
    },
    remedy=more_samples,
    reads=("reward/zero_variance_groups (and a config.yaml with rollout.problems)", "reward/zero_variance_share"),
)
