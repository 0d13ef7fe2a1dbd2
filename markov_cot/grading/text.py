"""Answers that are words: SQuAD's normalisation, exact match and token F1, and the rules that read them.

Rajpurkar et al. (arXiv 1606.05250, section 6.1) define the scores; Unicode text is brought into NFC first. Nothing of a
language is assumed but the articles, which are a setting; tokens are what white space separates.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

from markov_cot.grading.visible import before_next_turn, visible

ARTICLES = ("a", "an", "the")
_PUNCTUATION = str.maketrans("", "", string.punctuation)
_LABEL = re.compile(
    r"""
    (?: \b(?:the\s)?(?:final\s|correct\s)? \b(?:answer|ans)\b [*_`"']{0,3}
        (?: \s(?:to|for|of|in)\b[^.!?\n:]{0,80}? )?
        \s{0,3} (?: : | \b(?:is|was|are|were|would\sbe|should\sbe)\b :? )
      | \#{4} | <answer> )
    """,
    re.VERBOSE | re.IGNORECASE,
)
_BOXED = re.compile(r"\\boxed\{([^{}]*)\}")
_END = re.compile(r"(?<!\b[A-Za-z])(?<!\b(?:Mr|Dr|St|Jr|Sr|vs))(?<!\bMrs)[.!?](?=\s|\Z)|\n|</answer>")
_WRAPPING = re.compile(r"\A[\s*_`\"'“”‘’«»]+|[\s*_`\"'“”‘’«»]+\Z")


def normalised(text: str, articles: Sequence[str] = ARTICLES) -> str:
    """Return `text` in lower case, without ASCII punctuation and articles, with single spaces.

    >>> normalised("The  “Glass” Garden!"), normalised("der Hund", ("der",)), normalised("A.")
    ('“glass” garden', 'hund', '')
    """
    bare = unicodedata.normalize("NFC", text).lower().translate(_PUNCTUATION)
    if articles:
        bare = _articles(tuple(articles)).sub(" ", bare)
    return " ".join(bare.split())


def texts_equal(prediction: str | None, gold: str, articles: Sequence[str] = ARTICLES) -> bool:
    """Whether two texts are the same once normalised.

    >>> texts_equal("the Denver Broncos.", "Denver Broncos"), texts_equal(None, ""), texts_equal("Denver", "Broncos")
    (True, False, False)
    """
    return prediction is not None and normalised(prediction, articles) == normalised(gold, articles)


def token_f1(prediction: str | None, gold: str, articles: Sequence[str] = ARTICLES) -> float:
    """The harmonic mean of precision and recall of the prediction's tokens, each counted as often as it is there.

    Where one text has no tokens, 1 if neither has, else 0.

    >>> round(token_f1("in the city of Paris", "Paris, France"), 4), token_f1("Paris", "Paris"), token_f1(None, "Paris")
    (0.3333, 1.0, 0.0)
    """
    if prediction is None:
        return 0.0
    ours, theirs = normalised(prediction, articles).split(), normalised(gold, articles).split()
    if not ours or not theirs:
        return float(ours == theirs)
    common = sum((Counter(ours) & Counter(theirs)).values())
    return 2 * common / (len(ours) + len(theirs))


def line(text: str) -> str | None:
    """The first line that is not empty, without a label such as "Answer:", quotes and markdown around it.

    >>> line("\\nAnswer: **Paris**\\nNo, wait."), line("  ")
    ('Paris', None)
    """
    for each in before_next_turn(visible(text)).split("\n"):
        bare = _unwrapped(each)
        label = _LABEL.match(bare)
        if found := _unwrapped(bare[label.end() :]) if label else bare:
            return found
    return None


def anchor(text: str) -> str | None:
    """What follows the last label ("the answer is", "Answer:", "####", "\\\\boxed"), to the end of its sentence.

    >>> anchor("It lies in France. The answer is Paris. Good."), anchor("Paris")
    ('Paris', None)
    """
    text = before_next_turn(visible(text))
    boxed, found = list(_BOXED.finditer(text)), None
    for label in _LABEL.finditer(text):
        rest = text[label.end() :].lstrip()
        end = _END.search(rest)
        bare = _unwrapped(rest[: end.start() if end else None])
        found = (label.start(), bare) if bare else found
    if boxed and (found is None or boxed[-1].start() > found[0]):
        return _unwrapped(boxed[-1][1]) or None
    return found[1] if found else None


def whole(text: str) -> str | None:
    """The whole response.

    >>> whole(" Paris. ")
    'Paris.'
    """
    return text.strip() or None


def _unwrapped(text: str) -> str:
    """Without white space, quotes and markdown around it."""
    return _WRAPPING.sub("", text)


@lru_cache(maxsize=16)
def _articles(articles: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile(rf"\b(?:{'|'.join(map(re.escape, articles))})\b")
