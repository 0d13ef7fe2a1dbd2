"""What a judge found of two answers, as votes.

Labels are those of Arena-Hard (lmarena/arena-hard-auto): `A>>B`, `A>B`, `A=B`, `B>A`, `B>>A`. A is the answer that was
shown first.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

STRONG = 3
"""Votes that a strong verdict (>>) counts for, as in Arena-Hard."""
_BRACKETED = (re.compile(r"\[\[([AB<>=]+)\]\]"), re.compile(r"\[([AB<>=]+)\]"))
_LABEL = re.compile(r"([AB])(<<|<|=|>|>>)([AB])")
_SHARES = {">": 1.0, "=": 0.5, "<": 0.0}


@dataclass(frozen=True, slots=True)
class Verdict:
    """One comparison of two models' answers to one question."""

    question: str
    first: str
    """The model whose answer was shown first; the order means nothing in files that do not keep it."""
    second: str
    share: float | None
    """Of the vote, what the first gets: 1 it won, 0.5 a tie, 0 it lost. None for a malformed verdict."""
    votes: int = 1
    baseline: str | None = None
    """Which of the two the other is measured against, where the file says so."""
    category: str = ""
    judge: str = ""
    label: str | None = None
    """What stands in place of a verdict, where it is malformed; None for nothing."""


def label_in(judgment: str) -> str | None:
    """Return the verdict in a judge's text: the last `[[...]]`, or where there is none the last `[...]`.

    >>> label_in("[[A>B]]? No, [[B>A]]"), label_in("Tie [a=b]"), label_in("A>B")
    ('B>A', 'A=B', None)
    """
    upper = judgment.upper()
    return next((found[-1] for pattern in _BRACKETED if (found := pattern.findall(upper))), None)


def vote_of(label: str, strong: int = STRONG) -> tuple[float, int] | None:
    """Return A's share of the vote (1, 0.5 or 0) and how many votes it is; None for a label that says nothing.

    Read in either direction (`B<A` is `A>B`). `A>>A`, which judges do write, says nothing.

    >>> vote_of("A>>B"), vote_of("B>A"), vote_of("A=B"), vote_of("A>>A")
    ((1.0, 3), (0.0, 1), (0.5, 1), None)
    """
    match = _LABEL.fullmatch(label.strip().upper())
    if not match or match[1] == match[3]:
        return None
    share = _SHARES[match[2][0]]
    return (share if match[1] == "A" else 1 - share), (strong if len(match[2]) == 2 else 1)
