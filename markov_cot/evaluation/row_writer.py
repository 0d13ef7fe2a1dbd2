"""Writes a JSONL file that appears whole or not at all."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from markov_cot.utils.errors import UserError
from markov_cot.utils.files import replacing


@contextmanager
def writing_rows(path: Path) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Gives a function that writes one row. `path` is replaced at the end, and left as it was if anything is raised.

    A path that ends in `.gz` is gzipped, without a time stamp, so that equal rows give equal bytes. Raises `UserError`
    when the file cannot be written.
    """
    if path.is_dir():
        raise UserError(f"{path}: is a folder; name a file")
    if not path.parent.is_dir():
        raise UserError(f"{path}: there is no folder {path.parent}; create it first")
    try:
        with replacing(path) as raw:
            if path.suffix == ".gz":
                with gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) as zipped:
                    yield _row_writer(zipped.write)
            else:
                yield _row_writer(raw.write)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}); name a file in a folder that can") from None


def _row_writer(write_bytes: Callable[[bytes], object]) -> Callable[[dict[str, Any]], None]:
    def write(row: dict[str, Any]) -> None:
        try:
            line = json.dumps(row, ensure_ascii=False).encode("utf-8")
        except UnicodeEncodeError:  # half of a surrogate pair, which only an escape can spell
            line = json.dumps(row).encode("ascii")
        write_bytes(line + b"\n")

    return write
