"""English number words, from zero to 999,999, and what is said of halves and quarters after a number."""

from __future__ import annotations

import re

_UP_TO_NINETEEN = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
)
_BY_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
_SMALL = {word: value for value, word in enumerate(_UP_TO_NINETEEN.split())}
_TENS = {word: 10 * i for i, word in enumerate(_BY_TENS.split(), 2)} | {"fourty": 40}
_SCALES = {"hundred": 100, "thousand": 1000}
_WORD = "|".join(sorted((*_SMALL, *_TENS, *_SCALES), key=len, reverse=True))
_PHRASE = re.compile(
    rf"""
    \b (?P<sign>(?:minus|negative)\s)? (?P<a>an?\s(?=hundred\b|thousand\b))?
    (?P<words>(?:{_WORD})\b (?: (?:\s?-\s?|\s(?:and\s)?) (?:{_WORD})\b ){{0,8}})
    """,
    re.VERBOSE | re.IGNORECASE,
)
# "one third", "two million", "five dozen": neither the word's value nor another that is read here.
_NOT_THE_NUMBER = re.compile(
    r"[\s-]{1,2}(?:hal(?:f|ves)|thirds?|quarters?|fourths?|fifths?|sixths?|sevenths?|eighths?|ninths?|tenths?"
    r"|dozens?|millions?|billions?|trillions?|hundreds?|thousands?|point)\b",
    re.IGNORECASE,
)
_PRONOUN = re.compile(
    r"\s(?:of|that|which|who|thing|can|could|must|should|would|might|may|another)\b|['’]", re.IGNORECASE
)
_BEFORE_A_LONE_ONE = re.compile(
    r"(?:\A|[:=]|\b(?:is|are|was|be|equals|exactly|only|just|or|not|but|to))[\s*_`\"'(]{0,6}\Z", re.I
)
_PART = re.compile(
    r"(?<=[0-9]) and (?:(?:a|one) (half|quarter|third)|([0-9]{1,3}/[0-9]{1,3})|(three quarters|two thirds))\b"
)
_PARTS = {"half": "1/2", "quarter": "1/4", "third": "1/3", "three quarters": "3/4", "two thirds": "2/3"}


def words_to_digits(text: str) -> str:
    """`text` with its number words as digits. A lone "one" is a number only where it can be no pronoun.

    >>> words_to_digits("Twenty-one of them, minus five, a hundred; the one that is one. Two thirds")
    '21 of them, -5, 100; the one that is 1. Two thirds'
    """
    return _PHRASE.sub(_digits, text)


def begins_with_words(text: str, start: int) -> bool:
    """Whether a number in words begins at `start`.

    >>> begins_with_words("is twelve", 3), begins_with_words("is one of two", 3), begins_with_words("is 12", 3)
    (True, False, False)
    """
    match = _PHRASE.match(text, start)
    return match is not None and _digits(match) != match[0]


def join_parts(text: str) -> str:
    """`text` with "3 and a half" and "3 and 1/2" as mixed numbers.

    >>> join_parts("3 and a half or 4 and 3/4")
    '3 1/2 or 4 3/4'
    """
    if " and " not in text:
        return text
    return _PART.sub(lambda m: f" {m[2] or _PARTS[m[1] or m[3]]}", text)


def _digits(match: re.Match[str]) -> str:
    words = re.findall("[a-z]+", match["words"].lower())
    value = _value([word for word in words if word != "and"], bool(match["a"]))
    if value is None or _NOT_THE_NUMBER.match(match.string, match.end()):
        return match[0]
    if words == ["one"] and not match["sign"] and _is_pronoun(match):
        return match[0]
    return f"{'-' if match['sign'] else ''}{value}"


def _is_pronoun(match: re.Match[str]) -> bool:
    text, start = match.string, match.start()
    follows = _PRONOUN.match(text, match.end()) is not None
    return follows or _BEFORE_A_LONE_ONE.search(text[max(0, start - 20) : start]) is None


def _value(words: list[str], has_article: bool) -> int | None:
    """The number the words make up; None when they make up several, or none: "five six", "two forty"."""
    if "thousand" in words:
        at = words.index("thousand")
        above = _below_a_thousand(words[:at], has_article)
        below = _below_a_thousand(words[at + 1 :], False) if words[at + 1 :] else 0
        return None if above is None or below is None else 1000 * above + below
    return _below_a_thousand(words, has_article)


def _below_a_thousand(words: list[str], has_article: bool) -> int | None:
    if "hundred" in words:
        at = words.index("hundred")
        above = _SMALL.get(words[0]) if at == 1 else (1 if at == 0 else None)
        below = _below_a_hundred(words[at + 1 :]) if words[at + 1 :] else 0
        return None if above is None or below is None or above > 9 else 100 * above + below
    if not words and has_article:
        return 1
    return _below_a_hundred(words)


def _below_a_hundred(words: list[str]) -> int | None:
    if len(words) == 2 and words[0] in _TENS and 1 <= _SMALL.get(words[1], 0) <= 9:
        return _TENS[words[0]] + _SMALL[words[1]]
    return _SMALL.get(words[0], _TENS.get(words[0])) if len(words) == 1 else None
