"""Answers that are words: SQuAD's normalisation, exact match and token F1.

Rajpurkar et al. (arXiv 1606.05250) define the scores; Unicode text is brought into NFC first. Nothing of a
language is assumed but the articles, which are a setting; tokens are what white space separates.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

ARTICLES = ("a", "an", "the")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


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


@lru_cache(maxsize=16)
def _articles(articles: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile(rf"\b(?:{'|'.join(map(re.escape, articles))})\b")
