"""The steps of a CoT: its lines and sentences, as spans of its tokens.

Source of the idea: Lanham et al., Measuring Faithfulness in Chain-of-Thought Reasoning (arXiv 2307.13702), whose steps
are sentences.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

_END = re.compile(r"[.!?]+[\"')\]]*(?=\s)|\n+")
"""Where a step ends: at the end of a sentence that white space follows, or with its line."""
_MARK = re.compile(r"\s*\d{1,3}[.)]\s*")
"""The number of a list's item, which is no step of its own."""
_NUMBER = re.compile(r"(?<![\d.,])\d{1,15}(?![\d]|[.,]\d)")
"""A whole number of its own, not a part of 1,234 or 0.5."""

Decode = Callable[[Sequence[int]], str]


def split_steps(text: str) -> list[str]:
    r"""Return the steps of a text; together they are the text.

    >>> split_steps("3+5=8\n8.5 is more. So 8")
    ['3+5=8\n', '8.5 is more.', ' So 8']
    """
    steps, start = [], 0
    for end in _END.finditer(text):
        step = text[start : end.end()]
        if step.strip() and not _MARK.fullmatch(step):
            steps.append(step)
            start = end.end()
    if text[start:].strip() or not steps:
        steps.append(text[start:])
    else:
        steps[-1] += text[start:]
    return steps


def step_ids(cot: Sequence[int], decode: Decode) -> list[list[int]]:
    """Return the tokens of each step; a token that two steps share is the earlier one's. Together they are the CoT."""
    ends = token_ends(cot, decode)
    steps: list[list[int]] = []
    start = position = 0
    for step in split_steps(decode(cot)):
        position += len(step)
        stop = next((i + 1 for i, end in enumerate(ends) if end >= position), len(cot))
        if stop > start:
            steps.append(list(cot[start:stop]))
            start = stop
    if start < len(cot) and steps:
        steps[-1] += cot[start:]
    return steps or [list(cot)]


def token_ends(cot: Sequence[int], decode: Decode) -> list[int]:
    """Return where each token ends in the decoded text, in characters."""
    return [len(decode(cot[: i + 1])) for i in range(len(cot))]


class Mistake(NamedTuple):
    """A CoT up to and with a number that was changed."""

    kept: int
    """How many of the CoT's tokens stand before it unchanged."""
    text: str
    """What continues them: what is left of the token that the number begins in, and the wrong number."""


def make_mistake(cot: Sequence[int], decode: Decode, choice: float) -> Mistake | None:
    """Return the CoT with one of its whole numbers wrong, cut after it; None for a CoT without one.

    `choice` in [0, 1) says which number, and by how much it is off: 1, 2 or 10 more. A rule, where Lanham et al. have
    a model write a wrong step, so that it needs no other model and is the same every time.
    """
    text = decode(cot)
    numbers = list(_NUMBER.finditer(text))
    if not numbers:
        return None
    which, rest = divmod(choice * len(numbers), 1)
    number = numbers[int(which)]
    wrong = str(int(number[0]) + (1, 2, 10)[int(rest * 3)])
    ends = token_ends(cot, decode)
    kept = sum(end <= number.start() for end in ends)
    before = ends[kept - 1] if kept else 0
    return Mistake(kept, text[before : number.start()] + wrong)
