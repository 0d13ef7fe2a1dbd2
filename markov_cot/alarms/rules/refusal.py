"""CoTs that decline to answer."""

from __future__ import annotations

from collections.abc import Iterator

from markov_cot.alarms.alarm import Alarm, Context, Row, Text, number
from markov_cot.alarms.changes import BACK, RAISE_KL
from markov_cot.alarms.gauge import Reading
from markov_cot.alarms.smoothing import REWARD_DECAY, smooth
from markov_cot.config.alarms import RefusalLevels

KEY = "cot/refusal"


def refusal(row: Row, context: Context) -> Iterator[Reading]:
    """Share of CoTs that refuse, as a share of the way from its start to 1."""
    levels: RefusalLevels = context.levels
    value = number(row, KEY)
    if value is None:
        return
    base = context.base(KEY, value)
    now = smooth(context.memory, "share", value, REWARD_DECAY)
    way = (now - base) / (1 - base) if base < 1 else 0.0
    yield Reading("way", "refusal", way, levels.warn, levels.critical, seen={KEY: now, "base": base})


REFUSAL = Alarm(
    name="refusal",
    levels=RefusalLevels(),
    rule=refusal,
    texts={
        "refusal": Text(
            "A share of {cot/refusal:.2f} of the CoTs declines to answer, against {base:.2f} at the start",
            "Giving up is rewarded as well as trying, as with problems that are too hard, or a prompt that the model "
            "takes for something it should refuse.",
            ("Read the samples.", "Use easier problems.", RAISE_KL, BACK),
        ),
    },
    reads=(KEY,),
)
