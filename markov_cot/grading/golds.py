"""True answers that are numbers: the one rule for datasets and for files that are graded again.

A gold is a number as people write it (`70,000`, `$29.00`, `1/2`, `3½`, `1.5e3`, `４２`, `twelve`), with a unit or not
(`18 dollars`, `50%`, `90^\\circ`, `5 km/h`), as LaTeX or not (`$\\frac{3}{4}$`), after `x =`, or at the end of a worked
solution, after its last `####`. A gold whose value is more than its number (`3\\pi`, `2x`, `5!`) is *symbolic*.
"""

from __future__ import annotations

import math
import re
from decimal import Decimal
from functools import lru_cache

from markov_cot.grading.number_words import join_parts, words_to_digits
from markov_cot.grading.numeral_forms import ENGLISH, NO_VALUE, Form, ascii_digits, in_english, own_form
from markov_cot.grading.numerals import blank_numbers, find_spans, plain_value, tidy_latex

_LONGEST_EXPANDED = 40
"""Powers of ten up to which a scientific number is written out."""

_WRAPPERS = re.compile(
    r"\\(?:boxed|fbox|text|textbf|textit|mathbf|mathrm|mbox|operatorname)\s?\{([^{}]*)\}|\\[()\[\]]|(?<!\\)\$(?![0-9.-])|(?<=[^\s$])\$\Z"
)
_LATEX_NOISE = re.compile(
    r"\^\s?\{?\s?(?:\\circ|°)\s?\}?|\\(?=[%$ ])|\\(?:left|right|quad|displaystyle|degrees?)\b|~|°"
)
_UNIT_POWER = re.compile(
    r"\b(mm|cm|dm|km|m|ft|in|yd|mi|s|units?|inch(?:es)?|feet|met(?:er|re)s?)(?:\s?\^\s?\{?[23]\}?|[²³])"
)
_NAME = re.compile(r"\A[^0-9=]{0,30}=")
_SYMBOLIC = re.compile(
    r"\\[A-Za-z]|[\^*+<>≤≥√∞|{}±]|\0!|/\s*\0|\0\s?/(?!\s?[A-Za-z])|(?-i:[α-λν-ωΑ-Ψ])"
    r"|\b(?:sqrt|pi|log|ln|sin|cos|tan|exp|inf|infinity|mod)\b|[(\[][^()\[\]]*,[^()\[\]]*[)\]]",
    re.IGNORECASE,
)
_LETTER = re.compile(r"\0\s?([A-Za-z])\b(?!['’])")
_UNIT_LETTERS = "mgslLhtNJWVACFKTB"


class GoldError(ValueError):
    """Why a value cannot be a numeric gold, without what or where it is."""


def gold_number(value: object, form: Form | None = None) -> str:
    r"""The plain number of a gold. Raises `GoldError`, saying why, for what has none.

    >>> gold_number("$\\frac{3}{4}$"), gold_number("18 dollars"), gold_number("9 * 2 = 18 #### 1,800"), gold_number(0.5)
    ('3/4', '18', '1800', '0.5')
    >>> gold_number("3\\pi")
    Traceback (most recent call last):
        ...
    markov_cot.grading.golds.GoldError: is not a number but an expression
    """
    if isinstance(value, str):
        number, reason = _read(value, form)
        if number is None:
            raise GoldError(reason)
        return number
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise GoldError("is not a number")
    return written_out(repr(value))


def is_symbolic(gold: str) -> bool:
    r"""Whether a gold's value is that of an expression, not of the number in it.

    >>> is_symbolic("3\\pi"), is_symbolic("2x + 1"), is_symbolic("25 cm^2"), is_symbolic("Paris")
    (True, True, False, False)
    """
    return not (gold.isascii() and gold.isdigit()) and _read(gold, None)[1] == _EXPRESSION


def form_for(gold: object, form: Form | None) -> Form:
    """The form in which a row's numbers are written: `form`, if its gold can be read so, or else the gold's own."""
    if not isinstance(gold, str) or gold.isdigit():
        return form or ENGLISH
    text = _bare(gold)
    if form is not None and NO_VALUE not in in_english(text, form):
        return form
    return own_form(text) or form or ENGLISH


def written_out(plain: str) -> str:
    """A plain number without an exponent or needless zeros, as one would write it: `1.50e3` as `1500`."""
    if "/" in plain:
        return plain
    value = Decimal(plain)
    if abs(value.adjusted()) > _LONGEST_EXPANDED and "e" in plain.lower():
        return plain
    text = format(value, "f")
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text in ("-0", "") else text


_EXPRESSION = "is not a number but an expression"


@lru_cache(maxsize=1024)
def _read(gold: str, form: Form | None) -> tuple[str | None, str]:
    """(the number, "") or (None, why there is none)."""
    if gold.isascii() and gold.isdigit() and len(gold) < 20:
        return str(int(gold)), ""
    text = _bare(gold)
    text = _NAME.sub("", text)
    used = form_for(gold, form)
    if used not in (form, ENGLISH) and re.search(r"[(\[{].*[)\]}]", text):
        return None, _EXPRESSION  # (3,5) is a pair, not 3.5
    text = join_parts(in_english(text, used))
    if not any(c.isdigit() for c in text) and not _SYMBOLIC.search(text):
        text = join_parts(words_to_digits(f"= {text}"))[2:]
    blanked = blank_numbers(text)
    letter = _LETTER.search(blanked)
    is_variable = letter is not None and letter[1] not in _UNIT_LETTERS and blanked.count("\0") == 1
    if _SYMBOLIC.search(blanked) or (is_variable and letter is not None and not blanked[letter.end() :].strip(" .")):
        return None, _EXPRESSION
    numbers = [span.plain for span in find_spans(text)]
    if len(numbers) != 1:
        return None, "is not a number" + (" but several" if numbers else "")
    if plain_value(numbers[0]) is None:
        return None, "is not a number" + (" whose form is known" if numbers[0] == NO_VALUE else "")
    return written_out(numbers[0]), ""


def _bare(gold: str) -> str:
    """What follows the last `####`, without LaTeX that does not change the value."""
    text = ascii_digits(gold.rpartition("####")[2]).strip()
    for _ in range(2):  # \boxed{\text{18}}
        text = _WRAPPERS.sub(lambda match: f" {match[1]} " if match[1] else " ", text)
    return _UNIT_POWER.sub(r"\1", _LATEX_NOISE.sub(" ", tidy_latex(text))).strip().removesuffix(".")
