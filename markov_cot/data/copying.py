"""How much of a CoT is copied from what was asked."""

from __future__ import annotations

import re
from collections.abc import Iterator

from markov_cot.data.problem import Problem

NGRAM = 4
_WORD = re.compile(r"\w+")


def copied(cot: str, problem: Problem) -> float:
    """Return the share of a CoT's 4-grams of words that stand in the problem's passage or question, in any case.

    Punctuation does not count, and 4-grams that a CoT has twice count twice. 0 for a CoT of fewer than four words.
    """
    grams = list(_grams(cot))
    if not grams:
        return 0.0
    asked = {gram for text in (problem.passage, problem.question) for gram in _grams(text)}
    return sum(gram in asked for gram in grams) / len(grams)


def _grams(text: str) -> Iterator[tuple[str, ...]]:
    words = _WORD.findall(text.lower())
    return zip(*(words[i:] for i in range(NGRAM)), strict=False)
