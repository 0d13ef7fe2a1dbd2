"""CoTs whose text loses its texture while the reward falls."""

from __future__ import annotations

import math
from collections.abc import Iterator

from markov_cot.alarms.alarm import Alarm, Context, Row, Text, number
from markov_cot.alarms.changes import BACK, PULL_BACK
from markov_cot.alarms.gauge import Reading
from markov_cot.alarms.reward_trend import REWARDS, reward_trend
from markov_cot.alarms.smoothing import REWARD_DECAY, smooth
from markov_cot.config.alarms import CompressionLevels

KEY = "cot/compression"


def compression(row: Row, context: Context) -> Iterator[Reading]:
    """How far compression is from its start, up (loops) or down (noise), counted only once the reward has fallen.

    CoTs that get shorter or tidier compress differently as well; together with a falling reward it is dissolution, and
    shows well before either is alarming by itself.
    """
    levels: CompressionLevels = context.levels
    value = number(row, KEY)
    if value is None or value <= 0:
        return
    base = context.base(KEY, value)
    now = smooth(context.memory, "compression", value, REWARD_DECAY)
    reward = reward_trend(row, context.memory)
    if reward is None:
        return
    has_fallen = reward.fall >= levels.fall + levels.noise * reward.error
    away = abs(math.log(now / base)) if has_fallen and base > 0 else 0.0
    seen = {KEY: now, "base": base, "fall": reward.fall}
    yield Reading("away", "loops" if now > base else "noise", away, levels.warn, levels.critical, seen=seen)


_SEEN = "The CoTs' text compresses to 1/{cot/compression:.2f} of its bytes, against 1/{base:.2f} at the start, and the "
_FALL = "smoothed reward is {fall:.2f} nats below its best"

COMPRESSION = Alarm(
    name="compression",
    levels=CompressionLevels(),
    rule=compression,
    texts={
        "loops": Text(
            _SEEN + _FALL,
            "The CoTs begin to repeat themselves, and the reader gets less from them: a collapse often begins so.",
            (PULL_BACK, BACK),
        ),
        "noise": Text(
            _SEEN + _FALL,
            "The CoTs begin to turn into noise, and the reader gets less from them: a collapse often begins so.",
            (PULL_BACK, BACK),
        ),
    },
    reads=tuple(f"{KEY} and {key}" for key in REWARDS),
)
