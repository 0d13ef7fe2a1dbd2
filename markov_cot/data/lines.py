"""Files read a piece at a time, so that they may be larger than memory: plain or gzipped, with or without a BOM."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

from markov_cot.utils.errors import UserError

_GZIP, _BOM = b"\x1f\x8b", b"\xef\xbb\xbf"


@contextmanager
def unzipped(path: Path, kind: str = "JSONL file") -> Iterator[IO[bytes]]:
    """Give the content of a file as a stream, decompressed where it is gzip.

    `kind` is what the file should be. Raises `UserError` where the file cannot be opened or read.
    """
    try:
        with path.open("rb") as probe:
            is_zipped = probe.read(2) == _GZIP
        with gzip.open(path, "rb") if is_zipped else path.open("rb") as stream:
            yield cast(IO[bytes], stream)
    except FileNotFoundError:
        raise UserError(f"{path}: does not exist; give the path of a {kind}") from None
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(f"{path}: cannot be read ({reason}); give a readable {kind}, plain or gzipped") from None


def numbered_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield the lines that are not blank, each with its number from 1. Raises `UserError` as `unzipped` does."""
    with unzipped(path) as stream:
        for number, line in enumerate(stream, 1):
            line = line.removeprefix(_BOM) if number == 1 else line
            if line.strip():
                yield number, line


def parse_object(line: bytes) -> dict[str, Any]:
    """Return the JSON object on a line. Raises `ValueError`, whose text says in a few words why there is none."""
    try:
        row = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError:
        raise ValueError("not UTF-8") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON ({error.msg} at column {error.colno})") from None
    except ValueError:  # Python refuses to convert integers of thousands of digits
        raise ValueError("holds a number of absurd length") from None
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(row, dict):
        raise ValueError("not a JSON object")
    return row
