"""NaN and infinity."""

from __future__ import annotations

from collections.abc import Iterator

from markov_cot.alarms.alarm import Alarm, Context, Row, Text, number
from markov_cot.alarms.changes import BACK, FLOAT32, LOWER_CLIP, LOWER_LR
from markov_cot.alarms.gauge import Reading
from markov_cot.config.alarms import NonFiniteLevels

LEFT = 0.9
"""What is left of the count of rows that are not finite after one that is."""
APPLIED = ("loss/total", "optim/grad_norm")
"""Not finite, and not skipped: the parameters are lost."""
FINITE = ("loss/", "reward/", "policy/", "ppo/", "optim/grad_norm")
"""What the names of the metrics that must be finite begin with."""


def non_finite(row: Row, context: Context) -> Iterator[Reading]:
    """NaN or infinity in losses, gradients, rewards or log-probs."""
    levels: NonFiniteLevels = context.levels
    memory = context.memory
    bad = [key for key in row if key.startswith(FINITE) and number(row, key) is None]
    skipped = bool(row.get("optim/skipped"))
    rows = memory["rows"] = LEFT * memory.get("rows", 0.0) + float(bool(bad) or skipped)
    what = ", ".join(bad) or "optim/skipped"
    yield Reading("rows", "rows", rows, levels.warn, levels.critical, what=what)
    lost = not skipped and any(key in bad for key in APPLIED)
    yield Reading("applied", "applied", float(lost), 1.0, 1.0, 1.0, what=what)


NON_FINITE = Alarm(
    name="non_finite",
    levels=NonFiniteLevels(),
    rule=non_finite,
    texts={
        "rows": Text(
            "Row after row is not finite: {what}",
            "Numbers overflow, as with too large updates or too few bits. Updates with such gradients are skipped.",
            (LOWER_LR, LOWER_CLIP, FLOAT32),
        ),
        "applied": Text(
            "The loss or its gradient is not finite, and the update was not skipped: {what}",
            "The parameters are very likely lost: every later step starts from NaN.",
            (BACK, LOWER_LR, FLOAT32),
        ),
    },
    reads=tuple(f"{beginning}*" if beginning.endswith("/") else beginning for beginning in FINITE),
)
