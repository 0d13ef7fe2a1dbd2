"""Reads one field of a row, or says exactly what is wrong with it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from markov_cot.grading.golds import GoldError, gold_number, is_symbolic
from markov_cot.grading.kinds import LABELS, LETTERS
from markov_cot.grading.symbolic import NEEDS_MATH_VERIFY, can_compare

_JSON_NAMES = {dict: "an object", list: "a list", tuple: "a list", str: "text", type(None): "nothing (null)"}


class RowError(ValueError):
    """Why one row cannot be used, without where it is; the reader adds that."""


def as_object(row: Any) -> Mapping[str, Any]:
    """The row itself when it has named fields."""
    if not isinstance(row, Mapping):
        raise RowError(f"expected an object with fields, got {kind_of(row)}")
    return row


def field(row: Mapping[str, Any], name: str) -> Any:
    """Field `name`, which must be there."""
    if name not in row:
        raise RowError(f"field {name!r} is missing (the row has {', '.join(map(str, row)) or 'no fields'})")
    return row[name]


def text(row: Mapping[str, Any], name: str) -> str:
    """Text field `name` without surrounding white space; must be there and not be empty."""
    return clean_text(field(row, name), name)


def optional_text(row: Mapping[str, Any], name: str) -> str:
    """Text field `name`, or "" where it is absent, null or blank."""
    value = row.get(name)
    if value is None or (isinstance(value, str) and not value.strip()):
        return ""
    return clean_text(value, name)


def number(row: Mapping[str, Any], name: str) -> str:
    """Numeric field `name` as plain text; see `number_text`."""
    return number_text(field(row, name), name)


def texts(row: Mapping[str, Any], name: str) -> list[Any]:
    """List field `name`."""
    value = field(row, name)
    if not isinstance(value, (list, tuple)):
        raise RowError(f"{name}: expected a list, got {kind_of(value)}")
    return list(value)


def clean_text(value: Any, name: str) -> str:
    """`value` without surrounding white space."""
    if not isinstance(value, str):
        raise RowError(f"{name}: expected text, got {kind_of(value)}")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise RowError(f"{name}: holds a lone surrogate at character {error.start + 1}, which is not Unicode") from None
    if not value.strip():
        raise RowError(f"{name} is empty")
    return value.strip()


def text_or_number(value: Any, name: str) -> str:
    """`value` as text, also where the data has a bare number."""
    return clean_text(str(value) if _is_number(value) else value, name)


def number_text(value: Any, name: str) -> str:
    """A gold number as a model would write it: plain, without separators, units or trailing zeros (51.0 -> "51").

    `golds` says which golds are numbers. An expression is one where math-verify can compare it, and stays as it is.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise RowError(f"{name}: expected a number, got {kind_of(value)}")
    if isinstance(value, float) and not math.isfinite(value):
        raise RowError(f"{name} {value} is not a number")
    if isinstance(value, str):
        value = gold = clean_text(value, name)
        if is_symbolic(gold):
            if not can_compare():
                raise RowError(f"{name} {shown(gold)} is not a number but an expression; {NEEDS_MATH_VERIFY}")
            return gold
    try:
        return gold_number(value)
    except GoldError as error:
        raise RowError(f"{name} {shown(value)} {error}") from None


def choice_texts(values: Sequence[Any], name: str, fewest: int = 3, most: int = len(LABELS)) -> tuple[str, ...]:
    """The options' texts, `fewest` to `most` of them."""
    if not fewest <= len(values) <= most:
        raise RowError(f"{name}: expected {fewest} to {most} choices, got {len(values)}")
    named = zip(LETTERS, values, strict=False)
    return tuple(text_or_number(value, f"{name}: choice {letter}") for letter, value in named)


def choice_letter(label: Any, labels: Sequence[str], name: str) -> str:
    """The letter of the choice that the row itself calls `label`, where its choices are called `labels`."""
    known = list(labels)
    if label not in known:
        raise RowError(f"{name} {shown(label)} is not among the choices' labels {', '.join(known)}")
    return LETTERS[known.index(label)]


def shown(value: Any) -> str:
    """`value` for a one-line message, cut where it is long."""
    line = repr(value)
    return line if len(line) <= 60 else f"{line[:57]}..."


def kind_of(value: Any) -> str:
    """What JSON calls a value of this type."""
    if isinstance(value, bool):
        return str(value).lower()
    return _JSON_NAMES.get(type(value), "a number" if _is_number(value) else type(value).__name__)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
