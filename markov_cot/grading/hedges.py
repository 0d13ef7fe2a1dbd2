"""Whether a number in a response is one answer: not one of two, not a range's end, and not ruled out."""

from __future__ import annotations

import re

from markov_cot.grading.numerals import Span, find_spans, plain_value
from markov_cot.grading.wording import NEGATED_AFTER, has_any, is_negated_before

_NEAR = 40
"""Characters on either side in which a second number must begin."""

# What a joint may end with: quick to check before numbers are looked for.
_JOINT_MARKS = tuple("-–—~,")
_JOINT_WORDS = frozenset(
    ("or", "and/or", "to", "and", "through", "maybe", "perhaps", "possibly", "alternatively", "even", "also", "about")
) | {"around", "(maybe", "(perhaps", "(possibly", "(or"}
_JOINT_PARTS = ("or", "to ", "and ", "hrough", "-", "–", "—", "~", ",", "maybe", "perhaps", "possibly", "alternatively")
_UNIT = r"(?:[\s-]?[A-Za-z%°]{1,14}){0,2}"
_JOINT = re.compile(
    rf"""
    (?P<unit>{_UNIT}?) [\s*_`"')\]]{{0,4}}
    (?: (?P<other>,?\s?\b(?:and/)?or\b | [,;(]?\s?(?=\b(?:maybe|perhaps|possibly|alternatively)\b))
      | (?P<range>\b(?:to|through|up\sto)\b | [–—~-]) | (?P<both>\band\b) | (?P<comma>,) )
    \s? (?: (?:maybe|perhaps|possibly|alternatively|even|also|about|around|it\s(?:is|(?:could|might|may)\sbe)
            | [a-z]\s?=),?\s? ){{0,3}}
    [\s*_`"'(\[]{{0,4}}
    """,
    re.VERBOSE | re.IGNORECASE,
)
_UNIT_AFTER = re.compile(r"[\s-]?([A-Za-z%°]{1,14})")
_NO_UNIT = re.compile(r"is|are|was|were|and|or|but|so|because|since|as|for|in|of|to|the|it|if|when|per|with")
_CHANGE = re.compile(r"\b(?P<range>rang\w{1,4}\s|anywhere\s|somewhere\s)?(?:from|add(?:s|ed|ing)?)\s\Z", re.IGNORECASE)
_LIST_END = re.compile(r"[\s*_)\]}$]{0,4}(?:[.!?;,\n]|\Z|(?:or|and)\b)")
_TWO_SIGNS_BEFORE = re.compile(r"(?:[±∓]|\\pm|\+/-)\s?\Z")
_TWO_SIGNS_AFTER = re.compile(r"\s?(?:[±∓]|\\pm|\+/-)")


def is_ruled_out(text: str, span: Span) -> bool:
    """Whether the response says that this number is not the answer: "not 5", "5 is wrong", "rather than 5"."""
    return is_negated_before(text, span.start) or NEGATED_AFTER.match(text, span.end) is not None


def is_open(text: str, span: Span, *, begins_a_list: bool = False) -> bool:
    """Whether the number is one of several that are left open: "5 or 6", "10 to 12", "between 5 and 6", "±5".

    The same amount twice is one answer: "1/2 or 0.5", "3/4, or 75%", "120 minutes or 2 hours".
    With `begins_a_list`, "2, 3" is open too.
    """
    low, high = max(0, span.start - _NEAR), min(len(text), span.end + _NEAR)
    if _TWO_SIGNS_BEFORE.search(text[max(0, span.start - 5) : span.start]) or _TWO_SIGNS_AFTER.match(text, span.end):
        return True
    if _may_end_a_joint(text[low : span.start]):
        before = list(find_spans(text, low, span.start))
        if before and _leaves_open(text, before[-1], span, with_commas=False):
            return True
    if not has_any(text[span.end : high].lower(), _JOINT_PARTS) or not _JOINT.match(text, span.end, high):
        return False
    after = next(find_spans(text, span.end, min(len(text), high + _NEAR)), None)
    return after is not None and _leaves_open(text, span, after, with_commas=begins_a_list)


def _may_end_a_joint(before: str) -> bool:
    bare = before.rstrip(" \t\n*_`\"'([$")
    return " or " in before or bare[-1:] in _JOINT_MARKS or bare.rpartition(" ")[2].lower() in _JOINT_WORDS


def _leaves_open(text: str, first: Span, second: Span, with_commas: bool) -> bool:
    joint = _JOINT.fullmatch(text, first.end, second.start) if second.start - first.end <= _NEAR else None
    if joint is None or _same_amount(text, first, second):
        return False
    unit, following = joint["unit"].strip(" -").lower(), _unit_after(text, second.end)
    if joint["comma"]:
        return with_commas and not unit and _LIST_END.match(text, second.end) is not None
    if joint["other"] is not None:
        return not (unit and following and _singular(unit) != _singular(following))
    if joint["both"]:
        return not unit
    if unit and _singular(unit) != _singular(following):
        return False  # "11.6 rounds to 12"
    if not joint["range"].strip().isalpha() and " " not in joint["range"]:
        return _grows(first, second)  # "5-3" is a difference
    change = _CHANGE.search(text[max(0, first.start - 20) : first.start])
    return change is None or change["range"] is not None


def _same_amount(text: str, first: Span, second: Span) -> bool:
    left, right = plain_value(first.plain), plain_value(second.plain)
    if left is None or right is None:
        return False
    left_percent, right_percent = text.startswith(("%", "\\%"), first.end), text.startswith(("%", "\\%"), second.end)
    return left == right or (left_percent != right_percent and (left == 100 * right or right == 100 * left))


def _grows(first: Span, second: Span) -> bool:
    left, right = plain_value(first.plain), plain_value(second.plain)
    return left is not None and right is not None and left < right


def _unit_after(text: str, end: int) -> str:
    match = _UNIT_AFTER.match(text, end)
    unit = match[1].lower() if match else ""
    return "" if _NO_UNIT.fullmatch(unit) else unit


def _singular(unit: str) -> str:
    last = unit.rpartition(" ")[2]
    return last.rstrip("s") if len(last) > 1 else last
