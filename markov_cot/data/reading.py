"""Files to rows: JSONL, JSON lists, CSV and plain text, gzipped or not. A file is recognised by its content."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import json
import sys
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markov_cot.utils.errors import UserError

_GZIP_MAGIC = b"\x1f\x8b"
LFS_POINTER = b"version https://git-lfs"
_BOM = b"\xef\xbb\xbf"
_WIDE_BOMS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE)


@dataclass(frozen=True, slots=True)
class Row:
    """One row as it was read, before anything is known about its fields."""

    number: int
    """From 1."""
    unit: str
    """What `number` counts: "line" or "row"."""
    value: Any = None
    fault: str = ""
    """Why the row could not even be parsed; `value` is then None."""
    place: str = ""
    """Where it is, where `number` counts the rows of several files."""


def json_rows(path: Path) -> Iterator[Row]:
    """Rows of a JSONL file (blank lines are passed over), or of a file that is one JSON list or {"data": [...]}."""
    data = read_bytes(path)
    if data.lstrip().startswith(b"["):
        yield from _numbered(_whole(path, data))
        return
    if (rows := _rows_of_object(data)) is not None:
        yield from _numbered(rows)
        return
    # Not splitlines(): a JSON string may hold U+2028 and its like, which it takes for line ends.
    for number, line in enumerate(data.split(b"\n"), 1):
        if line.strip():
            try:
                yield _row(number, "line", parse_json(line.decode()))
            except UnicodeDecodeError as error:
                yield Row(number, "line", fault=f"not UTF-8 (byte {error.start + 1})")
            except (ValueError, RecursionError) as error:
                yield Row(number, "line", fault=_json_fault(error))


def parse_json(text: str) -> Any:
    """The value of a JSON text, where an object that has a key twice comes back as a `Twice`."""
    return json.loads(text, object_pairs_hook=_object)


class Twice(dict[str, Any]):
    """A JSON object in which a key is there twice, or one that holds such an object."""

    key = ""


def csv_rows(path: Path) -> Iterator[Row]:
    """Rows of a CSV file without header, each a list of its columns; `number` is the line a row starts on."""
    reader = csv.reader(io.StringIO(read_text(path), newline=""))
    start = 1
    try:
        for columns in reader:
            if columns:
                yield Row(start, "line", columns)
            start = reader.line_num + 1
    except csv.Error as error:
        raise UserError(f"{path} line {start}: not CSV ({error}); correct the file") from None


def table_rows(table: Iterable[Mapping[str, Any]]) -> Iterator[Row]:
    """Rows of one split in the hub's form."""
    for number, row in enumerate(table, 1):
        yield Row(number, "row", row)


def read_text(path: Path) -> str:
    """The whole file as text, without a byte order mark."""
    return _decode(path, read_bytes(path))


def read_bytes(path: Path) -> bytes:
    """The file's content, decompressed if it is gzip, without a byte order mark."""
    if is_dir(path):
        raise UserError(f"{path}: is a folder, not a file; name the file in it")
    try:
        data = path.read_bytes()
        data = gzip.decompress(data) if data.startswith(_GZIP_MAGIC) else data
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(f"{path}: broken gzip file ({error}); fetch it again") from None
    except FileNotFoundError:
        raise UserError(f"{path}: does not exist; check the path") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check the path and its permissions") from None
    check_not_pointer(path, data)
    if data.startswith(_WIDE_BOMS) or b"\0" in data[:4]:
        raise UserError(f"{path}: is UTF-16 or UTF-32 text, or no text at all; save the file as UTF-8")
    return data.removeprefix(_BOM)


def check_not_pointer(path: Path, beginning: bytes) -> None:
    """Raises `UserError` for what `git clone` leaves in the place of a large file where Git LFS is not installed."""
    if beginning.startswith(LFS_POINTER):
        raise UserError(f"{path}: is a Git LFS pointer, not the data; fetch it with `git lfs pull` or `hf download`")


def as_path(text: str) -> Path:
    """A path that a user gave, with "~" read as the home folder where there is one."""
    try:
        return Path(text).expanduser()
    except RuntimeError:  # "~" and a name that is no user
        return Path(text)


def is_file(path: Path) -> bool:
    """Whether it is a file that may be seen. `Path.is_file` raises where a folder above it may not be entered."""
    try:
        return path.is_file()
    except OSError:
        return False


def is_dir(path: Path) -> bool:
    """Whether it is a folder that may be seen; see `is_file`."""
    try:
        return path.is_dir()
    except OSError:
        return False


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object. Python takes the last of two equal keys in silence."""
    made = dict(pairs)
    twice = next((value.key for value in made.values() if isinstance(value, Twice)), "")
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
    if not twice:
        return made
    marked = Twice(made)
    marked.key = twice
    return marked


def _row(number: int, unit: str, value: Any) -> Row:
    if isinstance(value, Twice):
        return Row(number, unit, fault=f"the key {value.key!r} is there twice")
    return Row(number, unit, value)


def _numbered(values: Iterable[Any]) -> Iterator[Row]:
    return (_row(number, "row", value) for number, value in enumerate(values, 1))


def _whole(path: Path, data: bytes) -> Any:
    text = _decode(path, data)
    try:
        return parse_json(text)
    except (ValueError, RecursionError) as error:
        line = error.lineno if isinstance(error, json.JSONDecodeError) else 1
        raise UserError(f"{path} line {line}: {_json_fault(error)}; correct the file") from None


def _rows_of_object(data: bytes) -> list[Any] | None:
    """The rows of a file that is one JSON object: those in its `data`, or itself if it is on several lines."""
    if not data.lstrip().startswith(b"{"):
        return None
    try:
        text = data.decode().strip()
        value, end = json.JSONDecoder(object_pairs_hook=_object).raw_decode(text)
    except (ValueError, RecursionError):
        return None
    if end < len(text):
        return None
    if isinstance(value.get("data"), list) and "question" not in value:
        rows: list[Any] = value["data"]
        return rows
    return [value] if "\n" in text else None


def _json_fault(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"not JSON (column {error.colno}: {error.msg})"
    if isinstance(error, RecursionError):
        return "not JSON (nested too deeply)"
    return f"holds a number of more than {sys.get_int_max_str_digits()} digits"


def _decode(path: Path, data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        byte = error.start - (data.rfind(b"\n", 0, error.start) + 1) + 1
        raise UserError(f"{path} line {line}: not UTF-8 (byte {byte}); save the file as UTF-8") from None
