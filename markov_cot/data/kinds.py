"""Which kind of answers someone's own rows have, where nobody says so.

Choices make a choice, a list of accepted answers a text. Of the rest the whole data decide: numbers, if most answers
are numbers, so that the others are faults of their rows; texts, if most are not, and those that look like numbers are
texts, too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, get_args

from markov_cot.data.fields import RowError, number_text
from markov_cot.data.jsonl import CHOICES, GOLD, OWN_KINDS
from markov_cot.data.reading import Row
from markov_cot.grading.golds import is_symbolic
from markov_cot.grading.kinds import Kind
from markov_cot.utils.errors import UserError

_NUMBER, _NUMERAL, _WORDS = "a number", "a numeral", "words"
"""What an answer without choices looks like: a JSON number, a text that is a number, or another text."""


def kind_of_rows(rows: Iterable[tuple[str, Row]], where: str, *, cells: bool = False) -> Kind | None:
    """Return the kind of all rows, each given with its place for messages; None where it cannot be told.

    `cells` says that they are of CSV files. Raises `UserError` where there are several kinds.
    """
    looks: Counter[str] = Counter()
    first: dict[str, str] = {}
    for place, row in rows:
        look = _look(row.value, cells=cells)
        if look:
            looks[look] += 1
            first.setdefault(look, place)
    free = {look: looks[look] for look in (_NUMBER, _NUMERAL, _WORDS) if looks[look]}
    kinds: dict[Kind, int] = {kind: looks[kind] for kind in get_args(Kind) if looks[kind]}
    if free:
        numbers = looks[_NUMBER] + looks[_NUMERAL]
        if numbers >= looks[_WORDS]:
            kinds["numeric"] = kinds.get("numeric", 0) + sum(free.values())
            first.setdefault("numeric", first[next(iter(free))])
        else:
            kinds["text"] = kinds.get("text", 0) + looks[_WORDS] + looks[_NUMERAL]
            first.setdefault("text", first[_WORDS])
            if looks[_NUMBER]:
                kinds["numeric"] = kinds.get("numeric", 0) + looks[_NUMBER]
                first.setdefault("numeric", first[_NUMBER])
    if len(kinds) > 1:
        found = " and ".join(
            f"{kind} in {count:,} row{'s' * (count > 1)} (the first: {first[kind]})" for kind, count in kinds.items()
        )
        raise UserError(
            f"{where}: mixes kinds of answers, {found}; give one file for each, or say which with data.kind"
        )
    return next(iter(kinds), None)


def _look(row: Any, *, cells: bool) -> str | None:
    """A row's own kind, or what its answer looks like; None for rows that are broken in some other way."""
    if not isinstance(row, Mapping):
        return None
    if row.get("kind") in OWN_KINDS:
        return str(row["kind"])
    answer = row.get("answer") if row.get(GOLD) is None else row[GOLD]
    if _has_choices(row, cells=cells):
        return "choice"
    if isinstance(answer, list):
        return "text"
    if isinstance(answer, int | float) and not isinstance(answer, bool):
        return _NUMBER
    if not isinstance(answer, str) or not answer.strip():
        return None
    return _NUMERAL if _is_numeral(answer) else _WORDS


def _has_choices(row: Mapping[str, Any], *, cells: bool) -> bool:
    """As `jsonl.from_row` and `cells.from_cells` find them."""
    if cells:
        return any(str(row.get(name, "")).strip() for name in CHOICES) or ("A" in row and "B" in row)
    return any(row.get(name) and (name == CHOICES[0] or not isinstance(row[name], str)) for name in CHOICES)


def _is_numeral(text: str) -> bool:
    try:
        return bool(number_text(text, "answer"))
    except RowError:
        return is_symbolic(text)
