"""A row of anyone's own data: `question`, `answer`, and optionally `choices`, `passage`, `kind`, `group`, `id` and a
written `cot`."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
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
from markov_cot.grading.kinds import LETTERS, Kind

CHOICES = ("choices", "options")
"""What the choices' field may be called..."""
COTS = ("cot", "response", "rationale")
"""...and that of a written CoT, the first of them that is a text."""
GOLD = "gold"
"""The true answer, where `answer` is a teacher's."""
OWN_KINDS: tuple[Kind, ...] = ("numeric", "choice", "text")
"""That rows of one's own can have."""
_LABELLED = re.compile(r"\(?([A-Za-z])\s?[).]")


def from_row(row: Any, place: RowContext) -> Problem:
    """With choices, the answer is a letter, an option's exact text or its position; without, a number, a text, or a
    list of accepted texts, as the row's `kind`, the setting or the data as a whole have it.

    Where a teacher's row has a `gold`, that is the answer, and a CoT that comes to another one is no worked solution.
    """
    row = as_object(row)
    question = text(row, "question")
    labels, values = _choices(row)
    choices = choice_texts(values, "choices", fewest=2, most=len(LETTERS)) if values else ()
    kind = _kind(row, place, has_choices=bool(choices))

    def accepted(answer: Any) -> tuple[str, ...]:
        return (
            (chosen(answer, choices, labels, values),) if choices else _answers({**row, "answer": answer}, kind, place)
        )

    answers = accepted(field(row, "answer") if row.get(GOLD) is None else row[GOLD])
    return Problem(
        id=_id(row.get("id"), "id") or place.id,
        question=question,
        answer=answers[0],
        kind=kind,
        choices=choices,
        passage=optional_text(row, "passage"),
        rationale="" if _is_wrong(row, answers, accepted) else _cot(row),
        alternatives=answers[1:],
        group=_id(row.get("group"), "group"),
    )


def _is_wrong(row: Mapping[str, Any], answers: Sequence[str], accepted: Callable[[Any], tuple[str, ...]]) -> bool:
    """Whether a row has a true answer and another one of its own."""
    if row.get(GOLD) is None or row.get("answer") is None:
        return False
    try:
        return not set(accepted(row["answer"])) & set(answers)
    except RowError:
        return True


def _cot(row: Mapping[str, Any]) -> str:
    """What stands there may be anything in data that are not for `sft`, which counts what has none."""
    texts_there = (row.get(name) for name in COTS)
    return next((text.strip() for text in texts_there if isinstance(text, str) and text.strip()), "")


def accepted_texts(value: Any, name: str) -> tuple[str, ...]:
    """The accepted answers of a text question, each on one line and in NFC, none of them twice."""
    values = list(value) if isinstance(value, (list, tuple)) else [value]
    if not values:
        raise RowError(f"{name}: the list of accepted answers is empty")
    names = (
        [name] if not isinstance(value, (list, tuple)) else [f"{name}: number {i}" for i in range(1, len(values) + 1)]
    )
    found = (text_or_number(each, where) for each, where in zip(values, names, strict=True))
    return tuple(dict.fromkeys(" ".join(unicodedata.normalize("NFC", each).split()) for each in found))


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


def _kind(row: Mapping[str, Any], place: RowContext, *, has_choices: bool) -> Kind:
    """The row's own kind, the setting's, or that of the data; a row by itself is judged by its answer."""
    given = row.get("kind")
    if given is not None and given not in OWN_KINDS:
        raise RowError(f"kind {shown(given)} is not known; there are {', '.join(OWN_KINDS)}")
    said: Kind | None = given or place.data.kind
    if said not in (None, "choice") and has_choices:
        raise RowError(f"kind: is {said}, and there are choices")
    if said == "choice" and not has_choices:
        raise RowError("kind: is choice, and there are no choices")
    if has_choices:
        return "choice"
    if place.kind == "choice":
        raise RowError("no choices, which the others have")
    return said or place.kind or ("text" if isinstance(row.get("answer"), (list, tuple)) else "numeric")


def _answers(row: Mapping[str, Any], kind: Kind, place: RowContext) -> tuple[str, ...]:
    answer = field(row, "answer")
    if kind == "text":
        return accepted_texts(answer, "answer")
    try:
        return (number(row, "answer"),)
    except RowError as error:
        if isinstance(answer, str) and answer.strip() and not row.get("kind") and not place.data.kind:
            raise RowError(f"{error}; for answers that are texts, set data.kind=text") from None
        raise


def _id(value: Any, name: str) -> str:
    if isinstance(value, bool) or not isinstance(value, (str, int, type(None))):
        raise RowError(f"{name}: expected text or a whole number, got {kind_of(value)}")
    return "" if value is None else str(value).strip()
