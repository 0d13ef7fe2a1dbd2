"""Numbers as the math-verify library reads them: LaTeX parsed into an expression. Slow, and an optional dependency."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from markov_cot.grading.symbolic import TAIL, parse
from markov_cot.grading.visible import before_next_turn, visible

_MOST_BITS = 10_000
"""Size of a power that is still computed: the library also reads 10^{10^{10}}."""


def math_verify(text: str) -> str | None:
    r"""The rational value of the expression math-verify finds, as text; None when there is none.

    Per cent is a unit, as in every other rule. `\boxed{3 + 4}` gives `7`, `\frac{1}{2}` gives `1/2`; `\sqrt{2}` has no
    rational value and is invalid.
    """
    parsed = parse(before_next_turn(visible(text))[-TAIL:].replace("\\%", "").replace("%", ""))
    try:
        value = _value(parsed[0]) if parsed and not isinstance(parsed[0], str) else None
    except Exception:  # the library lets errors of sympy through
        return None
    return None if value is None else str(value)


def _value(expression: Any) -> Fraction | None:
    """The exact value of sums, products and moderate powers of numbers; sympy's own evaluation knows no limits."""
    if expression.is_Relational:
        return _value(expression.rhs)
    if expression.is_Rational:
        return Fraction(int(expression.p), int(expression.q))
    if expression.is_Float:
        return Fraction(str(expression))
    if not (
        expression.is_Add or expression.is_Mul or expression.is_Pow or type(expression).__name__ == "UnevaluatedExpr"
    ):
        return None
    parts = [_value(part) for part in expression.args]
    values = [part for part in parts if part is not None]
    if len(values) < len(parts):
        return None
    if expression.is_Pow:
        return _power(*values)
    total = Fraction(1 if expression.is_Mul else 0)
    for value in values:
        total = total * value if expression.is_Mul else total + value
    return total


def _power(base: Fraction, exponent: Fraction) -> Fraction | None:
    bits = max(base.numerator.bit_length(), base.denominator.bit_length())
    if abs(exponent) * bits > _MOST_BITS or (base == 0 and exponent < 0):
        return None
    if exponent.denominator == 1:
        return base**exponent.numerator
    from sympy import Rational

    root = Rational(base.numerator, base.denominator) ** Rational(exponent.numerator, exponent.denominator)
    return Fraction(int(root.p), int(root.q)) if isinstance(root, Rational) else None
