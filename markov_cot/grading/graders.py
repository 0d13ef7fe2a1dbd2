"""Whether a prediction is right. Numbers are compared by value, letters as letters; an invalid prediction never is."""

from __future__ import annotations

import re
from fractions import Fraction
from string import ascii_uppercase

from markov_cot.grading.golds import GoldError, gold_number, is_symbolic
from markov_cot.grading.kinds import LABELS, Kind
from markov_cot.grading.numeral_forms import Form
from markov_cot.grading.numerals import parse_number, plain_value
from markov_cot.grading.symbolic import NEEDS_MATH_VERIFY, can_compare

_GOLD_LETTER = re.compile(r"\s*[(\[]?\s*([A-Za-z])\s*[)\].:]*\s*")
_FINAL_STOP = re.compile(r"\.$")


def numbers_equal(prediction: str | None, gold: str, tolerance: Fraction | float | int = 0) -> bool:
    """Whether two texts hold the same number, in exact arithmetic, give or take an absolute `tolerance`.

    Currency, separators, units, percent signs and how it is written do not matter. Each text must hold exactly one
    number; the gold is read as `golds.gold_number` reads it.

    >>> numbers_equal("$70,000", "70000"), numbers_equal("1/2", "0.50"), numbers_equal("18.", "18 eggs")
    (True, True, True)
    >>> numbers_equal("3.33", "10/3"), numbers_equal("3.33", "10/3", tolerance=0.01), numbers_equal(None, "0")
    (False, True, False)
    """
    if prediction is None:
        return False
    if _is_short_integer(prediction) and _is_short_integer(gold):  # most are: no need of fractions
        return abs(int(prediction) - int(gold)) <= tolerance
    left, right = parse_number(prediction), gold_value(gold)
    if left is None or right is None:
        return False
    return left == right or abs(left - right) <= tolerance


def gold_value(gold: str, form: Form | None = None) -> Fraction | None:
    """The value of a true answer, or None where it is not one number; `golds` has the rule.

    >>> gold_value("9 * 2 = 18 #### 70,000"), gold_value("unknown")
    (Fraction(70000, 1), None)
    """
    try:
        return plain_value(gold_number(gold, form))
    except GoldError:
        return None


def exact_match(prediction: str | None, gold: str) -> bool:
    """lm-evaluation-harness's `exact_match` as its gsm8k task sets it, so that scores compare with published ones.

    Both sides lose every `,` and `$`, all up to the last `#### `, and one final full stop; then, in lower case, they
    must be the same text. So `18.0` is not `18`, and no prediction is the text `[invalid]`.

    >>> exact_match("70,000.", "so it is $70000 #### 70,000"), exact_match("18.0", "18"), exact_match(None, "18")
    (True, False, False)
    """
    return _ignoring("[invalid]" if prediction is None else prediction) == _ignoring(gold)


def letters_equal(prediction: str | None, gold: str) -> bool:
    """Whether the predicted letter is the true one, which may be written `C`, `c`, `(C)` or `C.`

    >>> letters_equal("C", "(c)"), letters_equal("B", "C"), letters_equal(None, "C")
    (True, False, False)
    """
    return prediction is not None and prediction == gold_letter(gold)


def gold_letter(gold: str) -> str | None:
    """The letter a true answer consists of, upper-case; None when it is not one letter."""
    if gold in ascii_uppercase and len(gold) == 1:
        return gold
    match = _GOLD_LETTER.fullmatch(gold)
    return match[1].upper() if match else None


def gold_text(gold: object, kind: Kind, choices: int = len(LABELS), form: Form | None = None) -> str:
    """A row's `gold` as the text that graders take. Raises `ValueError`, saying why, for what cannot be graded against.

    A number that only `form` tells how to read (1.234 for 1234) is returned plain. Texts are `gold_texts`' to read.

    >>> gold_text(18.0, "numeric"), gold_text("70,000", "numeric"), gold_text("b", "choice", 4)
    ('18', '70,000', 'B')
    >>> gold_text("E", "choice", 4)
    Traceback (most recent call last):
        ...
    ValueError: gold 'E' is not one of A-D
    """
    if kind == "choice":
        letter = gold_letter(gold) if isinstance(gold, str) else None
        if letter is None or letter not in ascii_uppercase[:choices]:
            raise ValueError(f"gold {_shown(gold)} is not one of A-{ascii_uppercase[choices - 1]}")
        return letter
    if isinstance(gold, str) and _is_short_integer(gold):
        return gold
    if isinstance(gold, str) and is_symbolic(gold):
        if not can_compare():
            raise ValueError(f"gold {_shown(gold)} is not a number but an expression; {NEEDS_MATH_VERIFY}")
        return gold
    try:
        number = gold_number(gold, form)
    except GoldError as error:
        raise ValueError(f"gold {_shown(gold)} {error}") from None
    # exact_match compares text, so a gold that is text stays as it is where it can be read so.
    return gold if isinstance(gold, str) and gold_value(gold) == plain_value(number) else number


def gold_texts(gold: object) -> tuple[str, ...]:
    """A row's accepted texts: one, or a list of them. Raises `ValueError`, saying why, for anything else.

    >>> gold_texts("Paris"), gold_texts(["Paris", "paris", "Paris"])
    (('Paris',), ('Paris', 'paris'))
    """
    golds = gold if isinstance(gold, list | tuple) else [gold]
    if not golds:
        raise ValueError("gold is an empty list; give the accepted texts")
    for each in golds:
        if not isinstance(each, str) or not each.strip():
            raise ValueError(f"gold {_shown(each)} is not a text, or is empty")
    return tuple(dict.fromkeys(golds))


def _is_short_integer(text: str) -> bool:
    return text.isdigit() and len(text) < 20 and text.isascii()


def _ignoring(text: str) -> str:
    # The harness removes `(?s).*#### ` by regex, which is the same as partitioning but quadratic in the text's length.
    return _FINAL_STOP.sub("", text.replace(",", "").replace("$", "").rpartition("#### ")[2]).lower()


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
