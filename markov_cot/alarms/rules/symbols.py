"""CoTs whose language drifts into symbols."""

from __future__ import annotations

from collections.abc import Iterator

from markov_cot.alarms.alarm import Alarm, Context, Row, Text, number
from markov_cot.alarms.changes import BACK, PULL_BACK
from markov_cot.alarms.gauge import Reading
from markov_cot.alarms.smoothing import REWARD_DECAY, smooth
from markov_cot.config.alarms import SymbolsLevels

KEY = "cot/symbols"


def symbols(row: Row, context: Context) -> Iterator[Reading]:
    """Rise of the share of characters that are symbols above its start, in which code and formulas have theirs."""
    levels: SymbolsLevels = context.levels
    value = number(row, KEY)
    if value is None:
        return
    base = context.base(KEY, value)
    now = smooth(context.memory, "share", value, REWARD_DECAY)
    yield Reading("rise", "symbols", now - base, levels.warn, levels.critical, seen={KEY: now, "base": base})


SYMBOLS = Alarm(
    name="symbols",
    levels=SymbolsLevels(),
    rule=symbols,
    texts={
        "symbols": Text(
            "A share of {cot/symbols:.2f} of the CoTs' characters are symbols, against {base:.2f} at the start",
            "The CoTs drift out of the language that the reader was trained on.",
            ("Read the samples.", PULL_BACK, BACK),
        ),
    },
    reads=(KEY,),
)
