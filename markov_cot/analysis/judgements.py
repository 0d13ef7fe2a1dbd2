"""Reads files of verdicts a row at a time. A file is recognised by its content: how it begins, and its first row."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

from markov_cot.analysis.verdict_formats import (
    ALPACA_EVAL,
    ARENA_HARD,
    CSV,
    FORMATS,
    OPPONENT,
    VOTES,
    Format,
    Reading,
    Row,
)
from markov_cot.analysis.verdicts import STRONG, Verdict
from markov_cot.checkpoints.manifest import checksum
from markov_cot.data.lines import numbered_lines, parse_object, unzipped
from markov_cot.data.reading import check_not_pointer, json_rows
from markov_cot.utils.errors import UserError

AUTO = "auto"
CHOICES = (AUTO, ARENA_HARD, ALPACA_EVAL, CSV)
_KIND = "file of verdicts"
_KNOWN = 0.5
"""The share of a format's fields that a file must have to be taken for one that lacks the others."""
_SHOWN = 8
_HEAD = 4096
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Source:
    """A file that was read."""

    path: Path
    sha256: str
    format: str
    rows: int


@dataclass(frozen=True, slots=True)
class _Numbered:
    place: str
    """Such as "line 3"."""
    row: Row = field(default_factory=dict)
    fault: str = ""
    """Why there is no row."""


def read_verdicts(
    path: Path,
    add: Callable[[Verdict], None],
    *,
    expected: str = AUTO,
    opponent: str = OPPONENT,
    strong: int = STRONG,
) -> Source:
    """Pass each verdict of a file to `add`, in order, and return what was read.

    `expected` is one of `CHOICES`; `opponent` the baseline of Arena-Hard v0.1 judgements, which do not name it;
    `strong` how many votes a strong verdict is. Raises `UserError` for a file that cannot be read, is empty, or is of
    an unknown format or another than expected, and for a malformed row. A malformed verdict is passed on.
    """
    if path.is_dir():
        raise UserError(f"{path}: is a folder, not a file; name the files in it")
    head = _head(path)
    is_csv = not head.startswith((b"{", b"["))
    numbered = _csv_rows(path, _delimiter(head)) if is_csv else _json_rows(path, is_list=head.startswith(b"["))
    first = next(numbered, None)
    if first is None:
        raise UserError(f"{path}: holds no rows; give a {_KIND}")
    found = _recognised(path, first, expected, (*FORMATS, VOTES) if is_csv else FORMATS)
    reading, rows = Reading(opponent, strong), 0
    for each in chain([first], numbered):
        try:
            if each.fault:
                raise ValueError(each.fault)
            for verdict in found.verdicts(each.row, reading):
                add(verdict)
        except ValueError as error:
            raise _faulty(path, each, str(error)) from None
        rows += 1
    return Source(path, checksum(path), found.name, rows)


def _recognised(path: Path, first: _Numbered, expected: str, formats: tuple[Format, ...]) -> Format:
    if first.fault:
        raise _faulty(path, first, first.fault)
    # Of equals the last: a CSV file with the fields of battles is one of votes.
    found = max(reversed(formats), key=lambda each: each.likeness(first.row))
    if found.likeness(first.row) < _KNOWN:
        names = list(first.row)
        fields = ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
        raise UserError(f"{path}: of no known format (its fields: {fields or 'none'}); docs/winrate.md has those known")
    if expected not in (AUTO, found.family):
        raise UserError(f"{path}: is of format {found.name}, not {expected}; leave out --format or name another file")
    return found


def _faulty(path: Path, each: _Numbered, reason: str) -> UserError:
    return UserError(f"{path} {each.place}: {reason}; correct the row, or take it out")


def _head(path: Path) -> bytes:
    """How a file begins, after white space. Raises `UserError` for one that is empty or no text."""
    with unzipped(path, _KIND) as stream:
        head = stream.read(_HEAD)
    check_not_pointer(path, head)
    if b"\0" in head:
        raise UserError(f"{path}: is not text in UTF-8; give a {_KIND} as JSONL, JSON or CSV")
    begun = head.removeprefix(_BOM).lstrip()
    if not begun:
        raise UserError(f"{path}: is empty; give a {_KIND}")
    return begun


def _json_rows(path: Path, *, is_list: bool) -> Iterator[_Numbered]:
    """Rows of a JSONL file, or of a file that is one JSON list, which is read as a whole."""
    if is_list:
        for each in json_rows(path):
            place = f"{each.unit} {each.number}"
            if each.fault or not isinstance(each.value, dict):
                yield _Numbered(place, fault=each.fault or "not a JSON object")
            else:
                yield _Numbered(place, each.value)
        return
    for number, line in numbered_lines(path):
        try:
            yield _Numbered(f"line {number}", parse_object(line))
        except ValueError as error:
            yield _Numbered(f"line {number}", fault=str(error))


def _delimiter(head: bytes) -> str:
    """What separates the cells of a CSV file: commas, or else what its header has."""
    header = head.split(b"\n", 1)[0].decode(errors="replace")
    return next((mark for mark in ",;\t" if mark in header), ",")


def _csv_rows(path: Path, delimiter: str) -> Iterator[_Numbered]:
    """Rows of a CSV file with a header."""
    with unzipped(path, _KIND) as stream, io.TextIOWrapper(stream, "utf-8-sig", newline="") as lines:
        # Strict, because otherwise a quote that is never closed swallows the rest of the file.
        reader = csv.reader(lines, delimiter=delimiter, strict=True)
        names: list[str] = []
        start = 1
        try:
            for cells in reader:
                if any(cell.strip() for cell in cells):
                    if names:
                        yield _cells(f"line {start}", names, cells)
                    else:
                        names = _names(path, start, cells)
                start = reader.line_num + 1
        except csv.Error as error:
            raise UserError(f"{path} line {start}: not CSV ({error}); correct the file") from None
        except UnicodeDecodeError:
            raise UserError(f"{path} after line {start}: not UTF-8; save the file as UTF-8") from None


def _names(path: Path, line: int, cells: list[str]) -> list[str]:
    names = [cell.strip() for cell in cells]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UserError(f"{path} line {line}: the header has {twice!r} twice; give each column a name of its own")
    return names


def _cells(place: str, names: list[str], cells: list[str]) -> _Numbered:
    if len(cells) != len(names):
        return _Numbered(place, fault=f"expected {len(names)} cells, as in the header, got {len(cells)}")
    return _Numbered(place, dict(zip(names, cells, strict=True)))
