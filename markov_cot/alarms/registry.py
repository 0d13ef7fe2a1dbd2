"""The built-in alarms by name, in the order in which they judge a row and are listed."""

from __future__ import annotations

from markov_cot.alarms.alarm import Alarm
from markov_cot.alarms.rules.compression import COMPRESSION
from markov_cot.alarms.rules.dead_groups import DEAD_GROUPS
from markov_cot.alarms.rules.divergence import DIVERGENCE
from markov_cot.alarms.rules.entropy import ENTROPY
from markov_cot.alarms.rules.kl import KL
from markov_cot.alarms.rules.leak import LEAK
from markov_cot.alarms.rules.non_finite import NON_FINITE
from markov_cot.alarms.rules.ratio import RATIO
from markov_cot.alarms.rules.refusal import REFUSAL
from markov_cot.alarms.rules.repetition import REPETITION
from markov_cot.alarms.rules.reward import REWARD
from markov_cot.alarms.rules.symbols import SYMBOLS
from markov_cot.alarms.rules.unstated import UNSTATED
from markov_cot.utils.plugins import Registry

ALARMS: Registry[Alarm] = Registry(
    "alarm",
    {
        alarm.name: alarm
        for alarm in (
            RATIO,
            REWARD,
            REPETITION,
            ENTROPY,
            KL,
            DEAD_GROUPS,
            DIVERGENCE,
            NON_FINITE,
            LEAK,
            UNSTATED,
            COMPRESSION,
            REFUSAL,
            SYMBOLS,
        )
    },
)
"""The levels of each are the settings `alarms.<name>`. The user's own, which `alarms.own` names, come after them."""
