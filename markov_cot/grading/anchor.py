"""The default rule for numbers: the answer that a response settles on, or nothing where it settles on none."""

from __future__ import annotations

import re

from markov_cot.grading.hedges import is_open, is_ruled_out
from markov_cot.grading.number_words import begins_with_words, join_parts, words_to_digits
from markov_cot.grading.numeral_forms import ENGLISH, NO_VALUE, Form, ascii_digits, in_english
from markov_cot.grading.numerals import MAX_DIGITS, Span, find_spans, last_spans, plain_value, tidy_latex
from markov_cot.grading.visible import before_next_turn, next_question, visible
from markov_cot.grading.wording import confirms, corrections, end_of_refusal, refusal

_REACH = 200
"""Characters after a label or an equals sign in which its number must begin."""

# Patterns begin with a set of characters where they can: the regex engine then skips ahead to the next of them.
_CONNECTOR = r"(?: [:=≈→] | [-=]> | \b(?i:is|was|are|equals?|becomes|(?:should|would|will|must)\s+be|comes\s+to)\b )"
_QUALIFIER = r"(?: \s{0,3}\([^()\n]{0,60}\) | ,?\s(?i:to|for|of|in)\b[^.!?\n:=]{0,80}? )"
LABEL = re.compile(
    rf"""
    [aA\#\\<] (?: (?<=\#)\#{{3}} | (?<=\\)boxed\b | (?<=<)(?i:answer)>
    | (?<=\b[aA])(?i:nswers?|ns)\b (?: [*_`"'’)\].]{{0,4}} {_QUALIFIER}?
        [*_`"'’,)\]]{{0,4}}\s{{0,3}} (?P<connector>{_CONNECTOR}) )? )
    """,
    re.VERBOSE,
)
"""What announces an answer; `connector` is what joins the word "answer" to it."""
_LEAD = re.compile(r"[\s*_`\"'’:{(\[\\$]{0,20}")
_ABOUT = re.compile(
    r"(?:(?:now|then|therefore|about|approximately|around|roughly|exactly|only|just|probably|simply)\s){0,3}", re.I
)
_BOUND = re.compile(
    r"(?:(?:a\s(?:bit|little)|slightly|much|far)\s)?(?:more|less|fewer|greater|larger|smaller|higher|lower)\sthan\b|[<>≤≥]",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"[.!?](?=\s|\Z)|\n")
_CLAUSE_END = re.compile(r"[,;](?=\s)|\s\(|\b(?:because|since)\b", re.IGNORECASE)
# The look-ahead leaves out signs without a digit before the next one, so that few need be tried.
_EQUALS = re.compile(rf"[=≈](?<![<>!].)(?!>)(?=[^=≈]{{0,{_REACH}}}?[0-9½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞])")
_IMMEDIATE = re.compile(r"[\s*_`\"'’:{(\[\\]{0,20}[-+−–]?\s?(?:\\?\$|[€£¥₹])?\s?[-−–]?(?:[0-9.½⅓⅔¼¾]|\\[dt]?frac)")
_ANY_DIGIT = re.compile(r"[0-9½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞]")
_COPULA = re.compile(
    r"\b(?:it|that|this|there|which|total|sum|result|value|number|amount|price|cost)"
    r"(?:['’]s|\sis|\sare|\swas|\sequals|\s(?:would|should|must|will)\s(?:have\s)?be(?:en)?)\s"
    r"|\b(?:should|must)\s(?:actually\s|have\s)?be(?:en)?\s|\bmake\s(?:that|it)\s|\bmeant\s",
    re.IGNORECASE,
)
_NOT = re.compile(r"not\b", re.IGNORECASE)
_AT_ONCE = re.compile(r"[\s,:;.!—–*_\"'(-]{0,8}")
_BOLD = re.compile(r"\*\*\s?(?=[^*\n]{1,40}\*\*)")
_SUBJECT = re.compile(
    r"[\s*_]*(?:(?:so|therefore|thus|hence|then|in\stotal|altogether|overall|only|about|exactly|at\sleast|a\stotal\sof|and)"
    r",?\s){0,4}[*_]{0,2}",
    re.IGNORECASE,
)
_ACTOR = re.compile(
    r"[\s*_]*(?:(?:so|therefore|thus|hence|then),?\s){0,2}(?:(?:the|a|each|all)\s)?[A-Za-z]+(?:\s[a-z]+)?\s(?:will\s|would\s)?"
    r"(?:needs?|requires?|costs?|earns?|takes?|makes?|saves?|spends?|gets?|uses?|has|have|had)\s"
    r"(?:a\stotal\sof\s|only\s|about\s|exactly\s|at\sleast\s)?[*_]{0,2}"
)
_PREDICATE = re.compile(
    r"[*_]{0,2}(?:\s[A-Za-z-]{1,20}){0,4}?\s(?:is|are|was|were|remain|remains|(?:will|would|must)\sbe)\b"
)
_ADJUNCT = re.compile(
    r"\b(?:for|after|because|since|per|every|each|when|if|among|between|from|out\sof|(?:to|can)\s\w{1,12}|in|on|with|of|by|at|into)\s"
    r"(?:(?:the|a|all|his|her|their|those|these|each|every|only|other)\s){0,2}[$]?\Z",
    re.IGNORECASE,
)


def anchor(text: str, form: Form = ENGLISH) -> str | None:
    r"""The number a response settles on: after the last "answer"-style label; else the last `=`; else the last number.

    Reasoning in tags, and a further question that the model asks itself, are left out. Labels: `answer`, `answer is`,
    `Answer (in dollars):`, `ans =`, `####`, `\boxed`, `<answer>`. A label without a number in its sentence is passed
    over. In "Answer: 9 * 2 = 18" the equals sign decides within the sentence. What the response takes back ("wait,
    ...") or rules out ("not 5") is no answer; two answers, ranges and refusals are invalid. docs/evaluation.md has the
    steps in order.

    >>> anchor("The answer is 5. No wait. The answer is $70,000.")
    '70000'
    >>> anchor("16 - 3 = 13, then 13 - 4 = 9 eggs"), anchor("3 hens, 4 ducks"), anchor("none")
    ('9', '4', None)
    >>> anchor("<think>5?</think> not 6 but 7"), anchor("twelve"), anchor("5 or 6"), anchor("3,5")
    ('7', '12', None, None)
    """
    text = prepared(text, form)
    cut = next_question(text)
    if cut is not None and _ANY_DIGIT.search(words_to_digits(text[:cut])):
        text = text[:cut]
    if not _ANY_DIGIT.search(text):
        text = join_parts(words_to_digits(text))
    return usable(_settled(text))


def prepared(text: str, form: Form = ENGLISH) -> str:
    """What is visible of `text`, with its numbers written in English digits; for rules that read it one by one."""
    return join_parts(in_english(tidy_latex(ascii_digits(before_next_turn(visible(text)))), form))


def usable(number: str | None) -> str | None:
    """The plain number, or None where it has no value."""
    if number is not None and number.isdigit() and len(number) <= MAX_DIGITS:
        return number
    return number if number is not None and plain_value(number) is not None else None


def _settled(text: str) -> str | None:
    """The number left when what is taken back is gone; `NO_VALUE` where the response leaves its answer open."""
    refused = refusal(text)
    marks = corrections(text)
    for mark in reversed(marks):
        number = _taken_up(text, mark)
        if number is not None:
            return number
    if refused:
        return _despite(text, refused)
    return _labels(text) or _unlabelled(text)


def _taken_up(text: str, mark: re.Match[str]) -> str | None:
    """The number that replaces one taken back at `mark`; None where nothing was replaced after all."""
    start = mark.end()
    number = _labels(text, start) or _stated(text, start)
    if number is not None:
        return number
    strong = mark["retracts"] or mark["redoes"]
    if strong or (not confirms(text[start:]) and _labels(text, 0, mark.start()) is None):
        number = _unlabelled(text, start)
    elif not confirms(text[start:]):
        number = _after_last_equals(text, start, len(text))
    return NO_VALUE if number is None and mark["retracts"] else number


def _despite(text: str, refused: re.Match[str]) -> str | None:
    """An answer given before a refusal, under a label, or after it; a number in passing is none."""
    start = end_of_refusal(refused)
    after = _labels(text, refused.end()) or _copula(text, start) or _after_last_equals(text, start, len(text))
    return after or _labels(text, 0, refused.start())


def _labels(text: str, start: int = 0, end: int | None = None) -> str | None:
    """The number of the last label between `start` and `end` that has one."""
    stop = len(text) if end is None else end
    for label in reversed(list(LABEL.finditer(text, start, stop))):
        if (number := _labelled(text, label, stop)) is not None:
            return number
        stop = label.start()
    return None


def _labelled(text: str, label: re.Match[str], stop: int) -> str | None:
    """The number that belongs to `label`: in its sentence, before `stop`, where the next label begins."""
    is_word = text[label.start()] not in "#\\<"
    lead = _LEAD.match(text, label.end())
    begin = lead.end() if lead else label.end()
    if is_word and not label["connector"] and not _IMMEDIATE.match(text, label.end()):
        return None
    limit = min(stop, begin + _REACH)
    sentence = _SENTENCE_END.search(text, begin, limit)
    end = sentence.start() if sentence else limit
    if text[begin : begin + 1].isalpha() or text[begin : begin + 1] in ("<", ">", "≤", "≥"):
        if (number := _in_words(text, begin, end)) is not None:
            return number
        if is_word and _BOUND.match(text, begin):
            return NO_VALUE
    clause = _CLAUSE_END.search(text, begin, end)
    number = _number_between(text, label.end(), clause.start()) if clause else None
    return number or _number_between(text, label.end(), end)


def _in_words(text: str, begin: int, end: int) -> str | None:
    about = _ABOUT.match(text, begin)
    if not begins_with_words(text, about.end() if about else begin):
        return None
    digits = join_parts(words_to_digits(text[begin:end]))
    return _number_between(digits, 0, len(digits))


def _stated(text: str, start: int) -> str | None:
    """The number that a correction states: after "it is", or at once."""
    at_once = _AT_ONCE.match(text, start)
    return _copula(text, start) or (_number_at(text, at_once.end()) if at_once else None)


def _copula(text: str, start: int) -> str | None:
    """The number after the last "it is" that has one."""
    found = (_number_at(text, stated.end()) for stated in reversed(list(_COPULA.finditer(text, start))))
    return next((number for number in found if number is not None), None)


def _number_at(text: str, start: int) -> str | None:
    about = _ABOUT.match(text, start)
    lead = _LEAD.match(text, about.end() if about else start)
    at = lead.end() if lead else start
    if not (_IMMEDIATE.match(text, at) or begins_with_words(text, at) or _NOT.match(text, at)):
        return None
    sentence = _SENTENCE_END.search(text, at, at + _REACH)
    end = sentence.start() if sentence else min(len(text), at + _REACH)
    return _in_words(text, at, end) or _number_between(text, start, end)


def _number_between(text: str, start: int, end: int) -> str | None:
    number = _after_last_equals(text, start, end)
    if number is not None:
        return number
    span = _first(text, start, end)
    if span is None:
        return None
    return NO_VALUE if is_open(text, span, begins_a_list=True) else span.plain


def _first(text: str, start: int, end: int) -> Span | None:
    return next((span for span in find_spans(text, start, end) if not is_ruled_out(text, span)), None)


def _after_last_equals(text: str, start: int, end: int) -> str | None:
    """The first number after the last equals sign that has one before the sentence, or the next sign, ends it."""
    if text.find("=", start, end) < 0 and text.find("≈", start, end) < 0:
        return None
    stop = end
    for sign in reversed(list(_EQUALS.finditer(text, start, end))):
        limit = min(stop, sign.end() + _REACH)
        lead = _LEAD.match(text, sign.end(), limit)
        begin = lead.end() if lead else sign.end()
        sentence = _SENTENCE_END.search(text, begin, limit)
        span = _first(text, sign.end(), sentence.start() if sentence else limit)
        if span is not None:
            return NO_VALUE if is_open(text, span) else span.plain
        stop = sign.start()
    return None


def _unlabelled(text: str, start: int = 0) -> str | None:
    """Without a label: the bold number of the last sentence, the last `=`, the number it is about, the last number."""
    text = text[start:]
    spans = last_spans(text) if "**" in text else []
    span = _bold(text, spans) if spans else None
    if span is None:
        if (number := _after_last_equals(text, 0, len(text))) is not None:
            return number
        spans = last_spans(text)
        span = _subject(text, spans)
    span = span or next((each for each in reversed(spans) if not is_ruled_out(text, each)), None)
    if span is None:
        return None
    return NO_VALUE if is_open(text, span) else span.plain


def _bold(text: str, spans: list[Span]) -> Span | None:
    """The number that the last bold words begin with, if neither a sign nor a sentence with a number follows."""
    by_start = {span.start: span for span in spans}
    found = [by_start[match.end()] for match in _BOLD.finditer(text) if match.end() in by_start]
    if not found or is_ruled_out(text, found[-1]):
        return None
    ends = _SENTENCE_END.search(text, found[-1].end, spans[-1].start)
    return None if ends or text.find("=", found[-1].end) >= 0 else found[-1]


def _subject(text: str, spans: list[Span]) -> Span | None:
    """The first number of the last sentence where the later ones only say what for: "12 pens are needed for 30"."""
    if len(spans) < 2 or not _ADJUNCT.search(text[max(0, spans[-1].start - 40) : spans[-1].start]):
        return None
    begin = 0
    for end in _SENTENCE_END.finditer(text, 0, spans[-1].start):
        begin = end.end()
    own = [span for span in spans if span.start >= begin]
    if len(own) < 2 or not all(_ADJUNCT.search(text[max(0, each.start - 40) : each.start]) for each in own[1:]):
        return None
    subject, actor = _SUBJECT.match(text, begin), _ACTOR.match(text, begin)
    is_subject = subject and subject.end() == own[0].start and _PREDICATE.match(text, own[0].end)
    is_object = actor and actor.end() == own[0].start
    return own[0] if (is_subject or is_object) and not is_ruled_out(text, own[0]) else None
