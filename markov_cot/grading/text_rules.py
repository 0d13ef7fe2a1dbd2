"""Rules that read a short text out of a response. Each returns it as it is written, or None: invalid."""

from __future__ import annotations

import re

from markov_cot.grading.anchor import LABEL
from markov_cot.grading.visible import before_next_turn, next_question, visible

_LINE_LABEL = re.compile(
    r"""
    (?P<mark>[*_`]{1,3})?
    (?: a\s{0,3}: | (?:(?:so|the|my),?\s){0,2} (?:(?:final|correct|short|best)\s)? (?:answers?|ans)
      [*_`]{0,3} (?: \s{0,3}[:=] | \s(?:is|was|are)\b\s{0,3}:? ) ) (?(mark)[*_`]{0,3}) \s*
    """,
    re.VERBOSE | re.IGNORECASE,
)
_MARKDOWN = re.compile(r"(?:[>•]|[-*+](?=\s)|\#{1,6}(?=\s))\s*")
_LEAD = re.compile(r"[\s*_`:=]*")
_ENCLOSURES = (
    *(("**", "**"), ("__", "__"), ("\\boxed{", "}")),
    *((mark, mark) for mark in "*_`$\"'"),
    *zip("“‘„«(", "”’“»)", strict=True),
)
_BOX = re.compile(r"\s*\{([^{}\n]*)\}")
_TAG = re.compile(r"</?answer>", re.IGNORECASE)
_STOP = re.compile(r"[.!?](?=[\"'”’)*_]{0,3}(?:\s|\Z))|\n")
# A full stop after one of these, or after a letter that stands alone, is a part of a name: St. Louis, J. S. Bach.
_ABBREVIATION = re.compile(
    r"(?:(?<![^\W\d_])(?<!['’])[^\W\d_]|\b(?:mr|mrs|ms|dr|st|sts|jr|sr|mt|ft|prof|gen|col|capt|lt|sgt|rev|gov|sen|rep|vs)"
    r"|\b(?:\w\.)+\w)\Z",
    re.IGNORECASE,
)
_LONGEST = 12
"""Characters in which an abbreviation is looked for."""


def line(text: str) -> str | None:
    r"""The first line that holds anything, without a label before it and the marks around it.

    >>> line("Answer: **Denver Broncos**\nThey won."), line("\n“in 1912”."), line("The answer is Paris."), line(" ")
    ('Denver Broncos', 'in 1912', 'Paris.', None)
    """
    lines = _visible(text).split("\n")
    return next((found for found in map(_unlabelled, lines) if found), None)


def anchor(text: str) -> str | None:
    r"""What follows the last answer label, up to the end of its sentence or line; invalid where there is no label.

    The labels are those of numbers: "answer is", "Answer:", "####", `\boxed{...}`, `<answer>`.

    >>> anchor("It lies in Ohio, so the answer is St. Mary's. It is old."), anchor("#### 1912"), anchor("Ohio")
    ("St. Mary's", '1912', None)
    """
    shown = _visible(text)
    stop = len(shown)
    for label in reversed([each for each in LABEL.finditer(shown) if _announces(each)]):
        if found := _after(shown, label, stop):
            return found
        stop = label.start()
    return None


def exact(text: str) -> str | None:
    r"""The whole response as it is.

    >>> exact(" Paris, France\n"), exact("")
    ('Paris, France', None)
    """
    return text.strip() or None


def _visible(text: str) -> str:
    """Without reasoning in tags, the next turn, and a question that the response runs on to."""
    shown = before_next_turn(visible(text))
    cut = next_question(shown)
    return shown if cut is None else shown[:cut]


def _unlabelled(text: str) -> str:
    """A line without list marks, label and enclosing marks."""
    text = _TAG.sub("", text).strip()
    mark = _MARKDOWN.match(text)
    text = _bare(text[mark.end() :] if mark else text)
    label = _LINE_LABEL.match(text)
    return _bare(text[label.end() :]) if label else text


def _announces(label: re.Match[str]) -> bool:
    """Whether an answer follows: the word "answer" alone does not say so."""
    return label[0][0] not in "aA" or label["connector"] is not None


def _after(text: str, label: re.Match[str], stop: int) -> str:
    """The text before `stop` that belongs to a label; empty where it has none."""
    mark, start = label[0][0], label.end()
    if mark == "\\":
        box = _BOX.match(text, start, stop)
        return _bare(box[1]) if box else ""
    if mark == "<":
        closed = _TAG.search(text, start, stop)
        return _bare(text[start : closed.start()] if closed else text[start:stop].partition("\n")[0])
    lead = _LEAD.match(text, start, stop)
    begin = lead.end() if lead else start
    return _bare(text[begin : _sentence_end(text, begin, stop)].rstrip("*_` "))


def _sentence_end(text: str, start: int, stop: int) -> int:
    """Where a sentence ends, or its line."""
    for mark in _STOP.finditer(text, start, stop):
        if mark[0] != "." or not _ABBREVIATION.search(text[max(start, mark.start() - _LONGEST) : mark.start()]):
            return mark.start()
    return stop


def _bare(text: str) -> str:
    """`text` without the quotes or markdown around the whole of it."""
    text = text.strip()
    for opening, closing in _ENCLOSURES:
        ended = text.rstrip(".,;") if text.startswith(opening) else ""
        inner = ended[len(opening) : -len(closing)]
        if inner.strip() and ended.endswith(closing) and opening not in inner and closing not in inner:
            return _bare(inner)
    return text
