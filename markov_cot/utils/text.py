"""Text from models and files, made safe to print."""

from __future__ import annotations

import unicodedata

_KEPT = "\n\t"
_UNSAFE = ("Cc", "Cf", "Cs")
"""Unicode categories: control codes, invisible formatting (which can reorder a line), and halves of surrogate pairs."""


def visible(text: str) -> str:
    r"""`text` with everything a terminal would obey, rather than show, written as an escape.

    >>> visible("\x1b[31mred")
    '\\x1b[31mred'
    """
    return "".join(c if c in _KEPT or unicodedata.category(c) not in _UNSAFE else _escape(c) for c in text)


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def is_unicode(text: str) -> bool:
    """Return whether `text` can be written to a file as UTF-8; names of files that are not UTF-8 cannot."""
    return not any(unicodedata.category(c) == "Cs" for c in text)


def first_line(error: BaseException) -> str:
    """An error's message as the middle of a sentence: its first line, or its type when it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
