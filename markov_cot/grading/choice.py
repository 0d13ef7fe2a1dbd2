"""Rules that read a choice's letter out of a response. Each returns one of the question's own letters, or None.

None is invalid: no letter, several, or one that is no choice of this question. `choices` holds the options' texts in
order; where only their number is known the texts are empty strings.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from string import ascii_uppercase

from markov_cot.grading.choice_texts import written_choice
from markov_cot.grading.kinds import LABELS
from markov_cot.grading.numeral_forms import ascii_digits
from markov_cot.grading.visible import before_next_turn, next_question, visible
from markov_cot.grading.wording import confirms, corrections, end_of_refusal, refusal

_ALNUM = "A-Za-z0-9À-ÖØ-öø-ɏ"
_LATEX_BRACE = r"\\(?:boxed|text|textbf|mathrm|mathbf)\s?\{"
_ONLY_A_LETTER = re.compile(
    rf"[\s*_`\"'’(\[{{$<#]*(?:{_LATEX_BRACE}){{0,2}}\(?([A-Za-z])[\s*_`\"'’)\]}}$.,:;!>]*",
)

# Patterns begin with a set of characters where they can: the regex engine then skips ahead to the next of them.
_CAPITAL = re.compile(rf"[A-Z](?<![{_ALNUM}'’°].)(?![{_ALNUM}'’])", re.DOTALL)
_SMALL = re.compile(rf"[)\]](?<=[a-z].)(?<![{_ALNUM}'’].{{2}})", re.DOTALL)
_QUALIFIER = r"(?: \s{0,3}\([^()\n]{0,60}\) | ,?\s(?i:to|for|of|in)\b[^.!?\n:=]{0,80}? )"
_LABEL = re.compile(
    rf"""
    [aAcCrRbBfF\#\\<] (?: (?<=\#)\#{{3}} | (?<=\\)boxed\b | (?<=<)(?i:answer)>
      | (?<=\b.)(?i:orrect|ight|est|inal|hosen)\s(?i:option|choice|letter|one)\b\s? (?: [:=] | (?i:is\b) )
      | (?<=\b[aA])(?i:nswers?|ns)\b [*_`"'’)\].]{{0,4}} {_QUALIFIER}? [*_`"'’,)\]]{{0,4}} \s{{0,3}}
        (?: [:=→] | [-=]> | \b(?i:is|was|(?:should|would|will|must)\s+be)\b )?
    )
    [\s:*_`"'‘“$]{{0,12}} (?: (?i:(?:the\s)?(?:option|choice|letter)\b)[\s:*_"']{{0,4}} )?
    (?: {_LATEX_BRACE} | \{{ ){{0,2}} (?P<bracket>[(\[])?
    (?<![{_ALNUM}'’°])(?P<letter>[A-Za-z])(?![{_ALNUM}'’/])(?!\.[A-Za-z])
    """,
    re.VERBOSE,
)
_VERDICT = re.compile(
    r"""
    [)\]*_"'.]{0,4} \s{1,3} (?i:is|must\sbe|seems|looks) \s{1,3}
    (?i:(?:also|clearly|therefore|thus|the|my|most|only)\s{1,3}){0,3} (?i:correct|right|best|true|answer)\b
    """,
    re.VERBOSE,
)
_JOINT = re.compile(
    r"""
    [)\]]? (?: \s{0,3} (?P<word>(?:,\s{0,3})?\b(?:(?:or|and|nor|to|through|maybe|perhaps|possibly)\b\s?){1,2}|[/&–—-])
        \s{0,3} (?:(?:option|choice)\s)?
      | \s{0,3} (?P<comma>[,;]) \s{0,3}
      | \s{1,3}
    ) [(\[]?
    """,
    re.VERBOSE,
)
_HEADER_END = re.compile(r"[)\]]|[.:](?=\s|\Z)")
# A star is an operator between two operands; beside only one it is markdown's.
_OPERATOR_BEFORE = re.compile(r"[=+/^<]\s?\Z|[A-Za-z0-9)]\s?\*\s?\Z|[A-Za-z]\.\Z")
_OPERATOR_AFTER = re.compile(r"\s?[=+/^<]|\s?\*(?:[A-Za-z0-9(]|\s[A-Z0-9(])|\.[A-Z]")
_NAMED = re.compile(r"\b(?:vitamins?|hepatitis|type|grade|point|appendix)\s\Z", re.IGNORECASE)
_NEGATED_BEFORE = re.compile(
    r"[nNeErRiItTuU](?:(?<=\b.)(?i:ot|either|or|xcept|liminates?|xcludes?|ules?\sout|nstead\sof|han|nlike)|['’]t)"
    r"\s(?i:be\s)?(?i:the\s)?(?i:answer\s|option\s|choice\s)?[(\[*\"']{0,3}\Z",
)
_NEGATED_AFTER = re.compile(
    r"[)\]*\"'.]{0,3}\s{1,3}(?:(?:is|are|was|seems|looks|can)\s(?:clearly\s|also\s)?"
    r"(?:not|wrong|incorrect|false|impossible|too|out)\b|cannot\b|(?:is|ca|does|wo|was)n['’]t\b)",
    re.IGNORECASE,
)
_TAKES_BACK = re.compile(
    r"""
    [\s,:;.!—–*_"'(\[-]{0,8} (?: (?:no|wait|actually|sorry|rather)\b[\s,:;.!—–-]{0,4} ){0,3}
    (?: (?: (?:it|that)(?:['’]s|\sis|\s(?:should|must)\sbe) | (?:should|must)\sbe | make\s(?:that|it)
        | i\s(?:choose|pick|meant|say|go\swith|would\ssay|['’]?d\ssay) | i['’]d\ssay | i['’]ll\sgo\swith | so )\s )?
    (?: (?:option|choice)\s )? [\s*_"'(\[]{0,4}
    """,
    re.VERBOSE | re.IGNORECASE,
)
_NEXT_WORD = re.compile(r"\s+([A-Za-z]+)")
_AFTER_A_LETTER = frozenset(
    ("is", "was", "because", "since", "as", "for", "and", "or", "but", "not", "would", "will", "must", "can", "cannot")
) | {"seems", "looks", "makes", "fits", "follows"}


@dataclass(frozen=True, slots=True)
class _Reading:
    """Every letter that may be the answer, upper-case and in order."""

    only: str | None = None
    """The letter that is all there is, or all there is after a correction."""
    labelled: tuple[str, ...] = ()
    """Those after an "answer"-style label, or called correct."""
    lone: tuple[str, ...] = ()
    """Without those, the letters that stand by themselves."""
    written: str | None = None
    """Without any letter, that of the option whose text is written."""


def word_boundary(text: str, choices: tuple[str, ...]) -> str | None:
    """The letter a response names: alone, after the last answer label, or else the first that stands by itself.

    Case-aware: a lone capital or a bracketed letter counts, the article "a" and the pronoun "I" do not. Letters that
    enumerate the choices, and letters ruled out ("not B", "B is wrong"), are no answers. A correction counts before
    what it corrects. Where no letter is named, the only option whose text is written is the answer.

    >>> four = ("",) * 4
    >>> word_boundary("It is a C", four), word_boundary("I'd say (b)", four), word_boundary("d", four)
    ('C', 'B', 'D')
    >>> word_boundary("A) 12 B) 15 C) 18", four), word_boundary("A dog", four), word_boundary("E", four)
    (None, None, None)
    >>> word_boundary("<think>(A)?</think> B. Wait, no: C.", four), word_boundary("a cat", ("a dog", "a cat"))
    ('C', 'B')
    """
    reading = _read(text, choices)
    return _own(reading.only or _last(reading.labelled) or next(iter(reading.lone), reading.written), choices)


def anchor(text: str, choices: tuple[str, ...]) -> str | None:
    """As `word_boundary`, but without a label the *last* lone letter wins, as suits reasoning before the answer.

    >>> anchor("Perhaps B. More likely C.", ("",) * 4), anchor("Answer: B. C is close.", ("",) * 4)
    ('C', 'B')
    """
    reading = _read(text, choices)
    return _own(reading.only or _last(reading.labelled) or _last(reading.lone) or reading.written, choices)


def legacy(text: str, choices: tuple[str, ...]) -> str | None:
    """Earlier code's "legacy" column: the first of the letters A-E anywhere in the upper-cased text.

    >>> legacy("It is a C", ("",) * 4), legacy("I'd say C", ("",) * 4), legacy("The C", ("",) * 5)
    ('A', 'D', 'E')
    """
    match = re.search("[A-E]", text.upper())
    return _own(match[0] if match else None, choices)


def legacy_boundary(text: str, choices: tuple[str, ...]) -> str | None:
    r"""Earlier code's "word boundary" column: the first `\b[A-D]\b` in the upper-cased text, for four choices.

    >>> four = ("",) * 4
    >>> legacy_boundary("It is a C", four), legacy_boundary("I'd say C", four), legacy_boundary("The C", four)
    ('A', 'D', 'C')
    """
    match = _boundary_pattern(len(choices)).search(text.upper()) if choices else None
    return match[0] if match else None


def _own(letter: str | None, choices: tuple[str, ...]) -> str | None:
    return letter if letter is not None and letter in ascii_uppercase[: len(choices)] else None


def _last(letters: tuple[str, ...]) -> str | None:
    return letters[-1] if letters else None


@lru_cache(maxsize=1)
def _read(text: str, choices: tuple[str, ...]) -> _Reading:
    # Two extractors read each response one after the other, so remembering one reading halves the work.
    text = ascii_digits(before_next_turn(visible(text)))
    cut = next_question(text)
    if cut is not None and (_letters(text[:cut]) or (any(choices) and written_choice(text[:cut], choices))):
        text = text[:cut]
    if only := _ONLY_A_LETTER.fullmatch(text):
        return _Reading(only[1].upper())
    marks = corrections(text)
    for mark in reversed(marks):
        if corrected := _corrected(text, mark, len(choices)):
            return _Reading(corrected)
    if marks and marks[-1]["retracts"]:
        return _Reading(None, written=_written(text[marks[-1].end() :], [], choices))
    return _of_part(text, choices)


def _of_part(text: str, choices: tuple[str, ...]) -> _Reading:
    """Every letter in a text that takes nothing back."""
    spots = _letters(text)
    labelled = _labels(text, spots)
    closed = _enumerated(text, spots, labelled)
    if labels := tuple(text[at].upper() for at in labelled if at not in closed):
        return _Reading(labelled=labels)
    lone = tuple(text[at].upper() for at in _lone(text, spots, closed, len(choices)))
    if _counts_up(lone):
        return _Reading()
    return _Reading(lone=lone) if lone else _Reading(written=_written(text, spots, choices))


def _labels(text: str, spots: list[int]) -> list[int]:
    """Positions of the letters that a label or a verdict marks as the answer."""
    return sorted({*_labelled(text), *(at for at in spots if text[at] != "I" and _VERDICT.match(text, at + 1))})


def _lone(text: str, spots: list[int], closed: frozenset[int], count: int) -> list[int]:
    """Positions of the letters that stand by themselves; those before a refusal were only talked about."""
    options = ascii_uppercase[: max(count, len(LABELS))]  # an E among four choices is an answer, an invalid one
    likely = (at for at in spots if text[at].upper() in options and at not in closed)
    found = [at for at in likely if _stands_alone(text, at)]
    refused = refusal(text) if found else None
    return [at for at in found if at >= end_of_refusal(refused)] if refused else found


def _corrected(text: str, mark: re.Match[str], count: int) -> str | None:
    """The letter named after a correction: at once or under a label where it takes back a labelled one, else any."""
    tail = text[mark.end() :]
    spots = _letters(tail)
    labelled = _labels(tail, spots)
    closed = _enumerated(tail, spots, labelled)
    if labels := [at for at in labelled if at not in closed]:
        return tail[labels[-1]].upper()
    lone = _lone(tail, spots, closed, count)
    if not lone:
        return None
    if not (mark["retracts"] or mark["redoes"]):
        if confirms(tail):
            return None
        was_labelled = next(_labelled(text[: mark.start()]), None) is not None
        lone = [at for at in lone if _TAKES_BACK.fullmatch(tail, 0, at)] if was_labelled else lone
    return tail[lone[-1]].upper() if lone else None


def _written(text: str, spots: list[int], choices: tuple[str, ...]) -> str | None:
    """The letter of the only option written, after a list of the options where there is one."""
    if not any(choices):
        return None
    if spots and any(len(run) == 2 for run in _lists(text, spots)):
        return None  # "B or C" is no answer, whatever is written beside it
    headers = list(_headers(text, spots, []))
    if not headers:
        return written_choice(text, choices)
    at = headers[-1][-1]
    return written_choice(text[at + 1 :], choices, _own(text[at].upper(), choices))


def _letters(text: str) -> list[int]:
    """Positions of letters that are no part of a word: capitals, and small ones with a closing bracket."""
    capitals = [match.start() for match in _CAPITAL.finditer(text)]
    small = [match.start() - 1 for match in _SMALL.finditer(text)] if ")" in text or "]" in text else []
    return sorted(capitals + small) if small else capitals


def _labelled(text: str) -> Iterator[int]:
    for match in _LABEL.finditer(text):
        at = match.start("letter")
        if match["bracket"] or not _is_word(text, at):
            yield at


def _stands_alone(text: str, at: int) -> bool:
    """Whether the letter is neither a word, nor a variable, nor part of a name, nor ruled out."""
    emphasised = text[max(0, at - 1) : at] == "*" == text[at + 1 : at + 2]
    operand = not emphasised and _OPERATOR_BEFORE.search(text, max(0, at - 4), at)
    if operand or _NEGATED_AFTER.match(text, at + 1):
        return False
    before = text[max(0, at - 30) : at]
    if _NEGATED_BEFORE.search(before):
        return False
    if text[at + 1 : at + 2] in (")", "]"):
        return True
    operand = not emphasised and _OPERATOR_AFTER.match(text, at + 1)
    return text[at] != "I" and not (operand or _NAMED.search(before) or _is_word(text, at))


def _is_word(text: str, at: int) -> bool:
    """Whether the unbracketed letter is the pronoun "I" or the article: "a dog", or "A dog" where a sentence begins."""
    letter = text[at]
    if letter not in "aAI":
        return False
    following = _NEXT_WORD.match(text, at + 1, at + 40)
    if letter == "I":
        return following is not None
    if following is None or following[1].lower() in _AFTER_A_LETTER:
        return False
    before = text[max(0, at - 20) : at].rstrip(" \t*_\"'‘“(`[#>-")
    return letter == "a" or not before or before[-1] in ".!?:;\n"


def _enumerated(text: str, spots: list[int], labelled: list[int]) -> frozenset[int]:
    """Which letters list the choices ("A) 12 B) 15", "A, B, C or D", "A-D") instead of naming one of them."""
    if len(spots) < 2:
        return frozenset()
    return frozenset(at for run in (*_lists(text, spots), *_headers(text, spots, labelled)) for at in run)


def _lists(text: str, spots: list[int]) -> Iterator[list[int]]:
    """Runs of letters joined by nothing but commas, spaces, dashes, "or" and the like."""
    run, word, comma = spots[:1], False, False
    for at in [*spots[1:], len(text)]:
        joint = _JOINT.fullmatch(text, run[-1] + 1, at) if at - run[-1] < 24 and at < len(text) else None
        if joint:
            run.append(at)
            word, comma = word or joint["word"] is not None, comma or joint["comma"] is not None
            continue
        if len(run) > 2 or (len(run) == 2 and (word or (comma and _begin_the_alphabet(text, run)))):
            yield run
        run, word, comma = [at], False, False


def _headers(text: str, spots: list[int], labelled: list[int]) -> Iterator[list[int]]:
    """Runs of letters in alphabetical order, each marked as a heading: "A) 12 B) 15 C) 18".

    A label before a later letter begins another run: "the answer is A. Then the answer is B." lists nothing.
    """
    run: list[int] = []
    labels = frozenset(labelled)
    for at in [*(at for at in spots if _HEADER_END.match(text, at + 1)), None]:
        if at is not None and run and ord(text[at]) == ord(text[run[-1]]) + 1 and at not in labels:
            run.append(at)
            continue
        if len(run) > 2 or (len(run) == 2 and _begin_the_alphabet(text, run)):
            yield run
        run = [] if at is None else [at]


def _begin_the_alphabet(text: str, run: list[int]) -> bool:
    return "".join(text[at] for at in run[:2]).upper() == "AB"


def _counts_up(letters: tuple[str, ...]) -> bool:
    """Whether the letters are A, B, C, ...: "A is 12, B is 15, C is 18" describes the choices."""
    return len(letters) > 2 and "".join(letters) == ascii_uppercase[: len(letters)]


@lru_cache(maxsize=32)
def _boundary_pattern(count: int) -> re.Pattern[str]:
    return re.compile(rf"\b[{ascii_uppercase[:count]}]\b")
