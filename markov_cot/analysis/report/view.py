"""Values on their way into a page, each with its place in the document that it comes from.

A template never holds a number: it names a place in the document, and what is shown carries that place along
(`data-at` in HTML), so that a page can be held against its document.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from markov_cot.utils.text import visible

MISSING = "–"
"""What stands for a value that there is none of."""
LONGEST = 20_000
"""Characters of a text that are shown; no command or setting is longer by nature."""
BEGINNING = 120
"""Characters of a text that stand for it in a list."""


@dataclass(frozen=True, slots=True)
class Value:
    """A value in a document, and where it stands: keys and indices, outermost first."""

    raw: Any
    at: tuple[str | int, ...] = ()

    def __getitem__(self, key: str | int) -> Value:
        try:
            return Value(self.raw[key], (*self.at, key))
        except (KeyError, IndexError, TypeError):
            return Value(None, (*self.at, key))

    def __iter__(self) -> Iterator[Value]:
        if isinstance(self.raw, dict):
            return (self[key] for key in self.raw)
        return (self[i] for i in range(len(self.raw or ())))

    def __len__(self) -> int:
        return len(self.raw or ())

    def __bool__(self) -> bool:
        return bool(self.raw) or is_number(self.raw)

    @property
    def key(self) -> str:
        """The last part of its place."""
        return str(self.at[-1])

    @property
    def place(self) -> str:
        """Its place as text, as in runs/0/result/n; a slash in a key is written as ~1, as in a JSON pointer.

        And what a page may not hold, such as U+0000, as ~x0;.
        """
        return "/".join(_escaped(str(part)) for part in self.at)


def is_number(raw: Any) -> bool:
    """Return whether a value is a number."""
    return isinstance(raw, int | float) and not isinstance(raw, bool)


def find(document: Any, place: str) -> Any:
    """Return what stands at a place. Raises `LookupError` where there is nothing."""
    for key in map(key_of, place.split("/")):
        document = document[int(key)] if isinstance(document, list) else document[key]
    return document


def key_of(part: str) -> str:
    """Return the key that a part of a place stands for."""
    return _ESCAPE.sub(lambda found: {"0": "~", "1": "/"}.get(found[1]) or chr(int(found[2], 16)), part)


def _escaped(key: str) -> str:
    plain = key.replace("~", "~0").replace("/", "~1")
    return "".join(c if visible(c) == c else f"~x{ord(c):x};" for c in plain)


_ESCAPE = re.compile(r"~(0|1|x([0-9a-f]+);)")


def _number(form: Callable[[float], str]) -> Callable[[Any], str]:
    def shown(raw: Any) -> str:
        if raw is None or (isinstance(raw, float) and not math.isfinite(raw)):
            return MISSING
        # Whatever a file that somebody has edited holds instead of a number is shown as it stands.
        return form(raw) if is_number(raw) else _plain(raw)

    return shown


def _seconds(value: float) -> str:
    if value < 60:
        return f"{value:.1f} s"
    minutes, seconds = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {seconds:02} s"


def _metric(value: float) -> str:
    """Of unknown size: four digits that count."""
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def _plain(raw: Any) -> str:
    if raw is None:
        return MISSING
    text = str(raw)
    return visible(text if len(text) <= LONGEST else f"{text[:LONGEST]}…")


FORMS: dict[str, Callable[[Any], str]] = {
    "percent": _number(lambda value: f"{100 * value:.1f} %"),
    "points": _number(lambda value: f"{100 * value:+.1f}"),
    "nats": _number(lambda value: f"{value:.3f}"),
    "change": _number(lambda value: f"{value:+.3f}"),
    "count": _number(lambda value: f"{value:,}"),
    "seconds": _number(_seconds),
    "gib": _number(lambda value: f"{value / 2**30:.2f} GiB"),
    "p": _number(lambda value: f"{value:.1e}" if 0 < value < 0.001 else f"{value:.3f}"),
    "metric": _number(_metric),
    "text": _plain,
    "beginning": lambda raw: " ".join(_plain(raw).split())[:BEGINNING],
}
"""How a value is shown, by the name of a template's filter."""
