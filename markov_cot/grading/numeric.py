"""Rules that read a number out of a response. Each returns a number as text, or None when there is none: invalid."""

from __future__ import annotations

import re

from markov_cot.grading.anchor import prepared, usable
from markov_cot.grading.numeral_forms import ENGLISH, Form
from markov_cot.grading.numerals import blank_numbers, find_numbers

_FLEXIBLE_RUN = re.compile(r"[-$0-9.,]+")
_STRICT = re.compile(r"#### (\-?[0-9\.\,]+)")
_FLEXIBLE = re.compile(r"(-?[$0-9.,]{2,})|(-?[0-9]+)")
_INTEGER = re.compile(r"-?\d+")

_BOXED_OR_BRACE = re.compile(r"\\(?:boxed|fbox)\s{0,3}\{|\\[\\{}]|[{}]")
_WORDS = re.compile(r"\\(?:text|textbf|textit|mathbf|mathrm|mbox|operatorname)\s?\{([^{}]*)\}")
_BOXED_NOISE = re.compile(r"\^\s?\{?\s?\\circ\s?\}?|\\(?:%|quad|left|right|displaystyle)|\\[ ]|~")
_UNIT_POWER = re.compile(r"[A-Za-z]\s?\^\s?\{?[0-9]\}?")
_CHANGES_VALUE = re.compile(r"[0-9+*^]|\\[A-Za-z]|/\s*\0")


def simple(text: str) -> str | None:
    """The rule of earlier code, for comparison with its numbers: the first integer after the last `=`, or of the text.

    Commas are dropped first, so "3, 4" gives 3 but "3,4" gives 34, and 3.5 is read as 3.

    >>> simple("about 3.5 of 70,000"), simple("7 + 2 = 9 apples, 4 pears"), simple("none")
    ('3', '9', None)
    """
    match = _INTEGER.search(text.rpartition("=")[2].replace(",", ""))
    if match is None:
        return None
    try:
        return str(int(match[0]))
    except ValueError:  # more digits than Python converts
        return None


def strict_match(text: str) -> str | None:
    """lm-evaluation-harness's gsm8k `strict-match`: what follows the first `#### `, as written.

    >>> strict_match("so 9 * 2 = 18 #### 18."), strict_match("The answer is 18")
    ('18.', None)
    """
    match = _STRICT.search(text)
    return match[1] if match else None


def flexible_extract(text: str) -> str | None:
    """lm-evaluation-harness's gsm8k `flexible-extract`: the last thing that looks like a number, as written.

    Faithful to its oddities: an ellipsis counts, and so does a sentence's full stop.

    >>> flexible_extract("He pays $18 or 20."), flexible_extract("Well..."), flexible_extract("five")
    ('20.', '...', None)
    """
    # A match lies within one run of these characters, so that searching the runs from the end finds the same one.
    for run in reversed(_FLEXIBLE_RUN.findall(text)):
        if found := list(_FLEXIBLE.finditer(run)):
            return found[-1][0]
    return None


def boxed(text: str, form: Form = ENGLISH) -> str | None:
    r"""The number in the last complete `\boxed{...}`; invalid when it holds anything that would change its value.

    >>> boxed("so \\boxed{70{,}000 \\text{ dollars}}"), boxed("\\boxed{x = \\frac{1}{2}}")
    ('70000', '1/2')
    >>> boxed("\\boxed{2\\sqrt{3}}"), boxed("\\boxed{3, 5}"), boxed("18")
    (None, None, None)
    """
    content = last_box(text, form)
    if content is None:
        return None
    content = _WORDS.sub(_keep_digits, content)
    content = _UNIT_POWER.sub(" ", _BOXED_NOISE.sub(" ", content)).rpartition("=")[2]
    numbers = list(find_numbers(content))
    if len(numbers) != 1 or _CHANGES_VALUE.search(blank_numbers(content)):
        return None
    return usable(numbers[0])


def _keep_digits(words: re.Match[str]) -> str:
    r"""`\text{18 eggs}` holds the answer, `\text{eggs}` a unit."""
    return f" {words[1]} " if any("0" <= c <= "9" for c in words[1]) else " "


def last_box(text: str, form: Form = ENGLISH) -> str | None:
    r"""Contents of the last complete `\boxed{...}` of a response; None where there is none."""
    return _last_boxed(prepared(text, form)) if "\\boxed" in text or "\\fbox" in text else None


def _last_boxed(text: str) -> str | None:
    r"""Contents of the last `\boxed{...}` whose braces balance; one pass, so that unclosed ones cost nothing."""
    opened: list[tuple[int, bool]] = []
    content = None
    for token in _BOXED_OR_BRACE.finditer(text):
        if token[0] == "}":
            if opened:
                start, is_box = opened.pop()
                if is_box:
                    content = text[start : token.start()]
        elif token[0].endswith("{") and token[0] != "\\{":
            opened.append((token.end(), token[0] != "{"))
    return content
