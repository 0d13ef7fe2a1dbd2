"""Choices by their texts: which option a response writes out, where it names no letter."""

from __future__ import annotations

import re
from string import ascii_uppercase

from markov_cot.grading.numeral_forms import ascii_digits
from markov_cot.grading.visible import before_next_turn, visible
from markov_cot.grading.wording import corrections, end_of_refusal, refusal

_THOUSANDS = re.compile(r",(?<=[0-9],)(?=[0-9]{3})")
_PUNCTUATION = str.maketrans(dict.fromkeys(";!?()[]{}\"'’‘“”`*$_\\", " "))
_NOT_IN_A_NUMBER = re.compile(r"[-.,:/](?:(?![0-9])|(?<=\w-)|(?<![0-9].)(?<!-))", re.DOTALL)
_OPERATORS = "+=^<>%"
_NEGATORS = (" not", " isn t", " wasn t", " nor", " neither", " rather than", " instead of", " except", " unlike")
_DENIALS = ("is wrong ", "is incorrect ", "is not ", "is false ", "isn t ", "cannot be ")


def choice_text(text: str, choices: tuple[str, ...]) -> str | None:
    """The choice whose *text* the response writes, compared by words; invalid when it writes several or none.

    An option inside a longer one that is also written does not count, nor does one that is ruled out. Of several, the
    only one after the last "answer" wins, and the only one after a correction.

    >>> options = ("an acid", "a base", "a strong base", "12")
    >>> choice_text("It must be a strong base.", options), choice_text("12.5", options), choice_text("Acid", options)
    ('C', None, 'A')
    >>> choice_text("Not an acid but a base.", options), choice_text("12? No, an acid.", options)
    ('B', 'A')
    """
    if not any(choices):
        return None
    return written_choice(ascii_digits(before_next_turn(visible(text))), choices)


def written_choice(text: str, choices: tuple[str, ...], begins_with: str | None = None) -> str | None:
    """As `choice_text`, of text that is all visible; it may first repeat the option with the letter `begins_with`."""
    if refused := refusal(text):
        text = text if any(refusal(choice) for choice in choices) else text[end_of_refusal(refused) :]
    for mark in reversed(corrections(text)):
        if letter := _only(text[mark.end() :], choices, None):
            return letter
    return _only(text, choices, begins_with)


def _only(text: str, choices: tuple[str, ...], begins_with: str | None) -> str | None:
    words, *phrases = _words(text, *choices)
    if begins_with:
        words = words.removeprefix(phrases[ascii_uppercase.index(begins_with)].rstrip())
    words = _without_denied(words, phrases)
    written = _written(words, phrases)
    if len(written) > 1 and " answer " in words:
        written = _written(words[words.rfind(" answer ") + len(" answer") :], phrases)
    return ascii_uppercase[written[0]] if len(written) == 1 else None


def _without_denied(words: str, phrases: list[str]) -> str:
    for negator in _NEGATORS:
        if f"{negator} " in words:
            for phrase in phrases:
                words = words.replace(negator + phrase, f"{negator} ") if len(phrase) > 2 else words
    for denial in _DENIALS:
        if f" {denial}" in words:
            for phrase in phrases:
                words = words.replace(phrase + denial, f" {denial}") if len(phrase) > 2 else words
    return words


def _words(*texts: str) -> list[str]:
    """Each text's lower-case words and numbers without articles, between single spaces: phrases match whole words."""
    joined = "\n".join(text.replace("\n", " ") for text in texts)  # one pass over all is faster than one each
    folded = _NOT_IN_A_NUMBER.sub(" ", _THOUSANDS.sub("", joined.casefold().translate(_PUNCTUATION)))
    for operator in _OPERATORS:
        if operator in folded:
            folded = folded.replace(operator, f" {operator} ")
    spaced = "\n".join(f" {' '.join(line.split())} " for line in folded.split("\n"))
    return spaced.replace(" the ", " ").replace(" an ", " ").replace(" a ", " ").split("\n")


def _written(words: str, phrases: list[str]) -> list[int]:
    """Indices of the phrases in `words`, less those only inside a longer one; a single letter must be all there is."""
    found = [i for i, phrase in enumerate(phrases) if len(phrase) > 2 and phrase in words]
    found = [i for i in found if len(phrases[i]) > 3 or phrases[i].strip().isdigit() or phrases[i] == words]
    if len({phrases[i] for i in found}) < len(found):
        return []  # choices with the same text cannot be told apart
    kept: list[int] = []
    for i in sorted(found, key=lambda i: -len(phrases[i])):
        if phrases[i] in words:
            kept.append(i)
            words = words.replace(phrases[i], " \0 ")
    return kept
