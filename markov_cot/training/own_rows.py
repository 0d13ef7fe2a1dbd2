"""Rows handed over in Python: kept in the run's folder, so that the run can be resumed and evaluated without them."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from markov_cot.checkpoints.run_dir import Folders, check_folders, writing
from markov_cot.utils.errors import UserError
from markov_cot.utils.files import replace_file
from markov_cot.utils.layout import CONFIG

ROWS = "rows.jsonl"


@contextlib.contextmanager
def kept_rows(rows: Iterable[Mapping[str, Any]], folders: Folders, *, resume: bool) -> Iterator[Path]:
    """Yield the path of `rows` as JSON lines in the run's folder. A run that never starts leaves no such file.

    Raises `UserError` for rows that JSON cannot hold, for a folder that belongs to another run or cannot be written,
    and for a resumed run that was started with other rows, which stay.
    """
    content, path = _as_jsonl(rows), folders.run / ROWS
    check_folders(folders, resume=resume)
    if resume and (not path.is_file() or path.read_bytes() != content):
        raise UserError(
            f"dataset: these are not the rows that run {folders.run.name} was started with; leave dataset= out to "
            "resume it"
        )
    if not resume:
        with writing(folders):
            folders.run.mkdir(parents=True, exist_ok=True)
            replace_file(path, content)
    try:
        yield path
    except BaseException as error:
        if not resume and not (folders.run / CONFIG).exists():
            _remove(path)
        if isinstance(error, UserError) and str(path) in str(error):
            raise type(error)(_of_rows(str(error), path)) from None
        raise


def _as_jsonl(rows: Iterable[Mapping[str, Any]]) -> bytes:
    lines = []
    for number, row in enumerate(rows, 1):
        try:
            lines.append(json.dumps(dict(row), ensure_ascii=False) + "\n")
        except (TypeError, ValueError) as error:
            raise UserError(f"dataset: row {number}: {error}; a row is a mapping of strings to plain values") from None
    if not lines:
        raise UserError("dataset: there are no rows; give some with question and answer")
    return "".join(lines).encode(errors="surrogatepass")


def _of_rows(message: str, path: Path) -> str:
    """A message about the file as one about the rows that it was made of."""
    rows = message.replace(f"{path} line ", "row ").replace(f"{path}: ", "")
    return f"dataset: {rows}"


def _remove(path: Path) -> None:
    """The file, and the folders that were made for it."""
    with contextlib.suppress(OSError):  # what ended the run matters more; or a folder is not empty
        path.unlink()
        path.parent.rmdir()
        path.parent.parent.rmdir()
