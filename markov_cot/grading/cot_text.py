"""What a CoT's text says about its health: repetition, compression, the answer in it, refusals, symbols.

Pure functions of a text or of its tokens. Training computes them for every step's CoTs, and `doctor` for those that it
finds in a log, where words stand for tokens.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Hashable, Sequence

from markov_cot.grading.kinds import Kind
from markov_cot.grading.wording import refusal

NGRAM = 4
_WORD = re.compile(r"\w+|[^\w\s]")
_SYMBOL = re.compile(r"_|[^\w\s.,;:!?'\"()\[\]{}+\-*/=$%\\“”‘’«»¿¡–—…×÷−·]")
_DECLINES = re.compile(
    r"\b(?:(?:as\san|i\sam\san|i['’]m\san)\s(?:ai|artificial\sintelligence|language\smodel)\b"
    r"|(?:can\s?not|can['’]t|unable\sto|won['’]t|will\snot)\s(?:assist|fulfil|comply|provide\san\sanswer)"
    r"|against\smy\s(?:guidelines|programming))",
    re.IGNORECASE,
)


def words(text: str) -> list[str]:
    """Return a text's words and marks, which stand for tokens where its token ids are not known.

    >>> words("so 4+5=9.")
    ['so', '4', '+', '5', '=', '9', '.']
    """
    return _WORD.findall(text)


def repetition(cot: Sequence[Hashable], n: int = NGRAM) -> float:
    """Share of a CoT's n-grams (of tokens) that occurred in it before: 0 for none, near 1 for "4444444"."""
    grams = list(zip(*(cot[i:] for i in range(n)), strict=False))
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def longest_run(cot: Sequence[Hashable]) -> float:
    """Longest stretch of one repeated token, as a share of the CoT: 1/L where none repeats, 1 for "4444444"."""
    longest = run = 0
    last = None
    for token in cot:
        run = run + 1 if token == last else 1
        longest, last = max(longest, run), token
    return longest / max(len(cot), 1)


def distinct(cot: Sequence[Hashable], n: int = 2) -> float:
    """Share of a CoT's n-grams (of tokens) that differ: distinct-n of Li et al. (arXiv 1510.03055); 1 if too short."""
    grams = list(zip(*(cot[i:] for i in range(n)), strict=False))
    return len(set(grams)) / len(grams) if grams else 1.0


def compression(cot: str) -> float:
    """Bytes of the text over bytes of its zlib compression, as in Whisper (arXiv 2212.04356).

    About 1 for a short text of its own words, above 2.4 for one that repeats itself; 0 for an empty text.
    """
    data = cot.encode(errors="replace")
    return len(data) / len(zlib.compress(data))


def symbols(text: str) -> float:
    """Share of characters that are neither letters, digits, white space nor common punctuation; 0 for an empty text.

    >>> symbols("4 + 5 = 9, so 9."), symbols("4@#9")
    (0.0, 0.5)
    """
    return len(_SYMBOL.findall(text)) / max(len(text), 1)


def refuses(text: str) -> bool:
    """Whether the text declines to answer, or says that there is no answer to give.

    >>> refuses("I cannot determine the sum."), refuses("As an AI I have no opinion."), refuses("The sum is 9.")
    (True, True, False)
    """
    return refusal(text) is not None or _DECLINES.search(text) is not None


def find_answer(text: str, accepted: Sequence[str], kind: Kind) -> re.Match[str] | None:
    """Return the first place where an accepted answer stands as a word or number of its own; texts in any case."""
    any_of = "|".join(map(re.escape, accepted))
    flags = re.IGNORECASE if kind == "text" else 0
    return re.search(rf"(?<![\w.])(?:{any_of})(?!\w|\.\d)", text, flags)
