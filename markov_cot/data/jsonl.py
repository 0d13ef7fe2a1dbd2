"""A row of anyone's own data: `question`, `answer`, and optionally `choices`, `passage` and `id`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from markov_cot.data.dataset import RowContext
from markov_cot.data.fields import (
    RowError,
    as_object,
    choice_texts,
    field,
    kind_of,
    number,
    optional_text,
    shown,
    text,
    text_or_number,
    texts,
)
from markov_cot.data.problem import Problem
from markov_cot.grading.kinds import LETTERS

CHOICES = ("choices", "options")
"""What the choices' field may be called."""
_LABELLED = re.compile(r"\(?([A-Za-z])\s?[).]")


def from_row(row: Any, place: RowContext) -> Problem:
    """With choices, the answer is a letter, an option's exact text or its position; without, it is a number."""
    row = as_object(row)
    labels, values = _choices(row)
    choices = choice_texts(values, "choices", fewest=2, most=len(LETTERS)) if values else ()
    return Problem(
        id=_id(row.get("id")) or place.id,
        question=text(row, "question"),
        answer=chosen(field(row, "answer"), choices, labels, values) if choices else number(row, "answer"),
        kind="choice" if choices else "numeric",
        choices=choices,
        passage=optional_text(row, "passage"),
    )


def chosen(answer: Any, choices: tuple[str, ...], labels: Sequence[str], values: Sequence[Any]) -> str:
    """The letter of the right choice, which `answer` names by its label, its text or its position, counted from 0.

    `values` are the choices as the row has them: where they are numbers, a number means one of them and no position.
    """
    named = text_or_number(answer, "answer")
    letters = LETTERS[: len(choices)]
    found = {letter for letter, choice in zip(letters, choices, strict=True) if choice == named}
    if label := _LABELLED.fullmatch(named):
        named = label[1]
    found |= {letter for letter, label in zip(letters, labels, strict=True) if label.upper() == named.upper()}
    if _is_whole(answer) and not all(kind_of(value) == "a number" for value in values) and 0 <= answer < len(choices):
        found.add(letters[int(answer)])
    if not found:
        known = f"a label ({', '.join(labels)}) nor the text of a choice"
        position = f", nor a position from 0 to {len(choices) - 1}" if _is_whole(answer) else ""
        raise RowError(f"answer {shown(named)} is neither {known}{position}")
    if len(found) > 1:
        raise RowError(f"answer {shown(named)} could mean choice {' or '.join(sorted(found))}; give its letter")
    return found.pop()


def _choices(row: Mapping[str, Any]) -> tuple[list[str], list[Any]]:
    """Labels and values of the choices: a list, {"label": [...], "text": [...]}, a list of {"label", "text"}, or
    {label: text}. Both are empty where the row has none."""
    name = next((name for name in CHOICES if row.get(name)), None)
    # A text in `options` is something else; it was always passed over, as other columns are.
    if name is None or (name != CHOICES[0] and isinstance(row[name], str)):
        return [], []
    given = row[name]
    if isinstance(given, Mapping) and set(given) == {"label", "text"}:
        labels, values = texts(given, "label"), texts(given, "text")
        if len(labels) != len(values):
            raise RowError(f"{name}: {len(labels)} labels for {len(values)} texts")
    elif isinstance(given, Mapping):
        filled = {label: value for label, value in given.items() if value is not None}
        labels, values = list(filled), list(filled.values())
    else:
        values = texts(row, name)
        labels = list(LETTERS[: len(values)])
        if all(isinstance(value, Mapping) for value in values):
            labels = [field(value, "label") for value in values]
            values = [field(value, "text") for value in values]
    labels = [text_or_number(label, f"{name}: label") for label in labels]
    if len({label.upper() for label in labels}) < len(labels):
        raise RowError(f"{name}: labels are {', '.join(labels)}; each must be there once")
    return labels, values


def _is_whole(value: Any) -> bool:
    """Whether it is a number without a fraction, as pandas writes 2.0 where a column has gaps."""
    if isinstance(value, bool):
        return False
    return isinstance(value, int) or (isinstance(value, float) and value.is_integer())


def _id(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, (str, int, type(None))):
        raise RowError(f"id: expected text or a whole number, got {kind_of(value)}")
    return "" if value is None else str(value).strip()
