"""What an alarm's explanation comes down to: what is new in it, and the settings to change."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from markov_cot.alarms.alarm import Alarm
from markov_cot.alarms.diagnosis import CAUSE, CHANGE
from markov_cot.alarms.registry import ALARMS

_END = re.compile(r"(?<=[.`])\s+(?=[A-Z])")


class Advice:
    """Explanations one after the other, in which every cause and every advice is given once."""

    def __init__(self) -> None:
        self._said: dict[str, int] = {}

    def shorten(self, step: int, diagnosis: str) -> str:
        """`diagnosis` without the sentences of cause and advice that were said already."""
        seen, has_cause, rest = diagnosis.partition(CAUSE)
        if not has_cause:
            return diagnosis
        causes, _, changes = rest.partition(CHANGE)
        earlier = [self._said[each] for each in _sentences(changes) if each in self._said]
        new_causes, new_changes = self._new(step, causes), self._new(step, changes)
        why = f"{CAUSE}{' '.join(new_causes)}" if new_causes else ""
        what = " ".join(new_changes) or f"as said at step {max(earlier, default=step)}."
        return f"{seen}{why}{CHANGE if why else CHANGE.lstrip()}{what}"

    def _new(self, step: int, text: str) -> list[str]:
        new = [each for each in _sentences(text) if each not in self._said]
        self._said |= dict.fromkeys(new, step)
        return new


def remedy(
    alarms: Iterable[str], settings: Mapping[str, Any], known: Mapping[str, Alarm] = ALARMS
) -> dict[str, float | int]:
    """Return settings, by their dotted keys, to continue with after these alarms were critical.

    All of them change what is computed, so a resume has to accept them.

    Args:
        alarms: their names.
        settings: the run's, flat.
        known: the alarms that judged the run; the built-in ones by default.
    """
    changes: dict[str, float | int] = {}
    for name in alarms:
        changes |= known[name].remedy(settings)
    return changes


def _sentences(text: str) -> list[str]:
    return [each for each in _END.split(text.strip()) if each]
