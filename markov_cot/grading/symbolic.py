"""Answers that are expressions, such as `3\\pi`, compared by the math-verify library where it is installed."""

from __future__ import annotations

import importlib.util
import threading
from functools import lru_cache
from typing import Any

NEEDS_MATH_VERIFY = "comparing expressions needs math-verify: in a checkout of markov-cot, pip install '.[math-verify]'"
TAIL = 4000
"""Characters at a response's end that are parsed; the library's own patterns are slow on very long texts."""
_SECONDS = 5
_LARGEST_POWER, _LARGEST_FACTORIAL = 1000, 200
"""Beyond which an expression is not compared: sympy's own evaluation knows no limits."""


def can_compare() -> bool:
    """Whether math-verify is installed."""
    return importlib.util.find_spec("math_verify") is not None


def expression_in(text: str) -> str | None:
    r"""The expression math-verify finds in a response, as it is written there; None where it finds none.

    `so the area is $3\pi$` gives `3\pi`.
    """
    parsed = parse(text[-TAIL:])
    written = parsed[-1] if parsed else None
    return written if isinstance(written, str) and written else None


def expressions_equal(prediction: str | None, gold: str) -> bool:
    r"""Whether two expressions have the same value: `\frac{6\pi}{2}` and `3\pi`."""
    if prediction is None:
        return False
    found, true = parse(f"${prediction}$"), _parsed_gold(gold)
    if not found or not true or not all(_is_moderate(each) for each in (*found, *true)):
        return False
    from math_verify import verify

    try:
        return bool(verify(true, found, timeout_seconds=_limit()))
    except Exception:  # the library lets errors of its parser and of sympy through
        return False


def parse(text: str) -> list[Any]:
    """What math-verify makes of `text`: the expression and how it is written; [] where it finds none or fails."""
    from math_verify import parse as parse_mathematics

    try:
        return list(parse_mathematics(text, parsing_timeout=_limit()))
    except Exception:  # as above
        return []


@lru_cache(maxsize=64)
def _parsed_gold(gold: str) -> list[Any]:
    bare = gold.rpartition("####")[2].strip()
    return parse(bare) if "$" in bare or "\\boxed" in bare or "\\(" in bare else parse(f"${bare}$")


def _limit() -> int | None:
    # The library's time limit rests on a signal, which only the main thread can receive.
    return _SECONDS if threading.current_thread() is threading.main_thread() else None


def _is_moderate(expression: Any) -> bool:
    """Whether no power or factorial in the expression is too large to compute."""
    if isinstance(expression, str):
        return True
    if not hasattr(expression, "args"):
        return False
    name = type(expression).__name__
    if name == "Pow" and not _is_small(expression.args[1], _LARGEST_POWER):
        return False
    if name == "factorial" and not _is_small(expression.args[0], _LARGEST_FACTORIAL):
        return False
    return all(_is_moderate(part) for part in expression.args if hasattr(part, "args"))


def _is_small(number: Any, most: int) -> bool:
    """Whether an exponent is a moderate number, or no number at all."""
    if getattr(number, "is_Rational", False) or getattr(number, "is_Float", False):
        return bool(abs(number) <= most)
    return not getattr(number, "is_number", False) or all(_is_small(part, 10) for part in number.args)
