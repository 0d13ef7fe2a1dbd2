"""CoTs that stand in a log as text, measured as training measures its own.

A log has a CoT or a few a row where training has dozens, so a row's measures are means over the last `WINDOW` CoTs, and
there are none before there are as many. The alarms' levels, which are set for a step's mean, then hold for both.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from markov_cot.alarms.logs.entry import Metrics, averaged
from markov_cot.grading.cot_text import (
    compression,
    distinct,
    find_answer,
    longest_run,
    refuses,
    repetition,
    symbols,
    words,
)
from markov_cot.grading.kinds import Kind

WINDOW = 16
MEASURED = 50_000
"""Characters of a text that are looked at."""
FEWEST_WORDS = 20
"""In a shorter text a word alone is a long run."""
LONGEST_ANSWER = 60
"""Characters; what is longer is a text to continue, which no CoT states."""
ANSWER = "cot/answer_in_cot"
MEASURES = (
    "cot/repetition",
    "cot/longest_run",
    "cot/distinct",
    "cot/compression",
    "cot/refusal",
    "cot/symbols",
    ANSWER,
)

DEEPEST = 2
"""Lists within each other: of completions, and of a chat's turns."""
TEXTS = ("cot", "completion", "completions")
"""Columns that hold CoTs: of samples.jsonl and rollouts, and of TRL's completions."""
ANSWERS = ("answer", "solution", "ground_truth")
"""Columns that hold the true answer beside them."""


class Cot(NamedTuple):
    """A CoT and what is known of its answer."""

    text: str
    answer: str = ""
    """Empty where the log does not say."""
    states: float | None = None
    """The log's own word on whether it states the answer, for where `answer` is empty."""


def measure(cot: Cot) -> dict[str, float]:
    """Return the measures of one CoT. `cot/answer_in_cot` is among them where the answer is known."""
    text = cot.text[:MEASURED]
    tokens = words(text)
    measures: dict[str, float] = {
        "cot/repetition": repetition(tokens),
        "cot/longest_run": longest_run(tokens) if len(tokens) >= FEWEST_WORDS else 0.0,
        "cot/distinct": distinct(tokens),
        "cot/compression": compression(text),
        "cot/refusal": float(refuses(text)),
        "cot/symbols": symbols(text),
    }
    if cot.answer:
        measures[ANSWER] = float(find_answer(text, (cot.answer,), kind_of(cot.answer)) is not None)
    elif cot.states is not None:
        measures[ANSWER] = cot.states
    return measures


@dataclass(slots=True)
class CotTexts:
    """Means over a row's CoTs, or over the last `WINDOW` where it has fewer."""

    _last: deque[dict[str, float]] = field(default_factory=lambda: deque(maxlen=WINDOW))

    def take(self, cots: Iterable[Cot]) -> Metrics:
        """Return the measures of a row that has these CoTs; nothing where it has none, or too few came before."""
        measured = [measure(cot) for cot in cots]
        self._last.extend(measured)
        if not measured or len(self._last) < WINDOW:
            return {}
        return averaged(measured if len(measured) >= WINDOW else self._last)


def cots_in(row: Mapping[str, Any]) -> list[Cot]:
    """Return the CoTs that a row holds under one of the names `TEXTS`; chats count by their assistant's turns."""
    found = next((row[name] for name in TEXTS if name in row), None)
    answer = next((known_answer(row[name]) for name in ANSWERS if name in row), "")
    return [Cot(text, answer) for text in _texts(found)]


def known_answer(value: Any) -> str:
    """Return an answer that a CoT may state, without GSM8K's "####"; "" for one that is no short text or number."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return ""
    answer = str(value).rpartition("####")[2].strip()
    return answer if len(answer) <= LONGEST_ANSWER else ""


def kind_of(answer: str) -> Kind:
    """Return the kind of an answer of which a log says nothing more."""
    if re.fullmatch(r"[A-Z]", answer):
        return "choice"
    return "numeric" if re.fullmatch(r"[-+]?[\d.,/]+", answer) else "text"


def _texts(found: Any, depth: int = 0) -> Iterator[str]:
    if isinstance(found, str):
        yield found
    elif isinstance(found, list) and depth < DEEPEST:
        if found and all(isinstance(turn, dict) and "content" in turn for turn in found):
            yield "\n".join(str(turn["content"]) for turn in found if turn.get("role") != "user")
        else:
            for each in found:
                yield from _texts(each, depth + 1)
