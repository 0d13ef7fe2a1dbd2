"""What the name of a run says: its step, and through a pattern its settings."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from markov_cot.analysis.sweep_rows import Rows, number
from markov_cot.utils.errors import UserError

FINAL = ("final", "last")
"""What stands for the number of a run's last step."""
_STEP = re.compile(
    r"[-_/.](?:(?:(?:global[-_]?)?steps?|checkpoint|ckpt|iter)[-_]?(?P<step>[0-9]+)(?P<thousands>k?)"
    rf"|(?P<final>{'|'.join(FINAL)}))$",
    re.IGNORECASE,
)
_PART = re.compile(r"\{(?P<column>[^{}:=]+)(?::(?P<form>[^{}=]*)|=(?P<value>[^{}]*))?\}|(?P<any>\*)")
FORMS = {
    "": r"[0-9]*\.?[0-9]+(?:[eE][+-]?[0-9]+)?|[A-Za-z][A-Za-z0-9.]*",
    "e-": r"[0-9]*\.?[0-9]+[eE][0-9]+",
    "0.": r"[0-9]+",
}
"""What a field matches: a number or a word; a number whose exponent has lost its minus (1e5 is 1e-5); the digits of a
number that has lost its "0." (010 is 0.010)."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """Text with fields, such as "rank{rank}-alpha{lr:e-}-{warmup:0.}"."""

    text: str
    regex: re.Pattern[str]
    fields: tuple[tuple[str, str], ...]
    """Column and form of each group."""
    constants: Mapping[str, str]

    def read(self, name: str) -> dict[str, str] | None:
        """Return what a name says by column, or None where the pattern is nowhere in it."""
        found = self.regex.search(name)
        if not found:
            return None
        read = {column: restored(part, form) for (column, form), part in zip(self.fields, found.groups(), strict=True)}
        return read | dict(self.constants)


def restored(text: str, form: str) -> str:
    """Return the number that a name abbreviates.

    >>> restored("1e5", "e-"), restored("010", "0."), restored("64", "")
    ('1e-5', '0.010', '64')
    """
    if form == "e-":
        return text.lower().replace("e", "e-")
    return f"0.{text}" if form == "0." else text


def parse_pattern(text: str) -> Pattern:
    """Return a `--pattern`. Raises `UserError` where it has no field, or a field of an unknown form.

    `{column}` is a number or a word, `{column:e-}` and `{column:0.}` are abbreviated numbers, `{column=value}` matches
    nothing and says what a name leaves unsaid, and `*` is any text.
    """
    regex, end = "", 0
    fields, constants = [], {}
    for part in _PART.finditer(text):
        regex += re.escape(text[end : part.start()])
        end = part.end()
        column, form = part["column"], part["form"] or ""
        if part["any"]:
            regex += ".*?"
        elif part["value"] is not None:
            constants[column.strip()] = part["value"].strip()
        elif form not in FORMS:
            raise UserError(f"--pattern {text}: {form!r} is no form of a field; there are {{x}}, {{x:e-}} and {{x:0.}}")
        else:
            fields.append((column.strip(), form))
            regex += f"({FORMS[form]})"
    regex += re.escape(text[end:])
    columns = [*(column for column, _ in fields), *constants]
    if not columns or len(set(columns)) < len(columns):
        raise UserError(f"--pattern {text}: needs fields, each once, as in 'rank{{rank}}-lr{{learning_rate}}'")
    return Pattern(text, re.compile(regex), tuple(fields), constants)


def split_step(name: str) -> tuple[str, str]:
    """Return a checkpoint's name as its run's name and its step; "" where the name has no step.

    >>> split_step("rank64-default-step6000"), split_step("rank64-default-final"), split_step("rank64-default")
    (('rank64-default', '6000'), ('rank64-default', 'final'), ('rank64-default', ''))
    """
    found = _STEP.search(name)
    if not found:
        return name, ""
    step = "final" if found["final"] else found["step"] + ("000" if found["thousands"] else "")
    return name[: found.start()], step


def with_names_read(rows: Rows, column: str, patterns: Sequence[str]) -> Rows:
    """Return the rows with what the patterns read from their names as columns, the first that matches for each name.

    Raises `UserError` where no name matches, or a name contradicts a column.
    """
    parsed = [parse_pattern(text) for text in patterns]
    new = dict.fromkeys(name for each in parsed for name in (*(c for c, _ in each.fields), *each.constants))
    cells, unread = [], []
    for row, place in zip(rows.cells, rows.places, strict=True):
        read = next((found for each in parsed if (found := each.read(row[column])) is not None), None)
        if read is None:
            unread.append(split_step(row[column])[0])
        cells.append(_merged(row, read or {}, new, place))
    if len(unread) == len(cells):
        raise UserError(
            f"--pattern {patterns[0]}: matches none of the names in {column}, such as {unread[0]!r}; "
            "write what stands around the settings as it is there"
        )
    added = tuple(name for name in new if name not in rows.columns)
    notes = rows.notes
    if unread and added:
        names = list(dict.fromkeys(unread))
        notes += (
            f"{len(unread)} rows' names match no pattern ({', '.join(names[:3])}{', ...' * (len(names) > 3)}), so that "
            f"their {', '.join(added)} are unknown; another pattern with {{column=value}} can say them",
        )
    return replace(rows, columns=(*rows.columns, *added), cells=tuple(cells), notes=notes)


def _merged(row: Mapping[str, str], read: Mapping[str, str], new: Mapping[str, None], place: str) -> dict[str, str]:
    merged = {**dict.fromkeys(new, ""), **row}
    for name, value in read.items():
        there = merged[name]
        if there and there != value and (number(there) is None or number(there) != number(value)):
            raise UserError(
                f"{place}: its name says {name} {value}, its column {there}; correct the file or the pattern"
            )
        merged[name] = there or value
    return merged
