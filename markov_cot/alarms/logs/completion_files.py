"""TRL's `completions/` folder: a Parquet file a logged step, a row a completion."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markov_cot.alarms.logs.cot_texts import Cot, CotTexts, cots_in
from markov_cot.alarms.logs.entry import Entry, averaged
from markov_cot.alarms.logs.names import translate
from markov_cot.utils.errors import UserError

FOLDER, PATTERN = "completions", "completions_*.parquet"
_NAME = re.compile(r"completions_(\d+)\.parquet", re.ASCII)


@dataclass(slots=True)
class CompletionFiles:
    """Such a folder, or one file of it."""

    path: Path
    settings: dict[str, Any] | None = None
    torn: bool = False

    def entries(self) -> Iterator[Entry]:
        """Yield an entry a file, in the order of the steps in their names."""
        texts = CotTexts()
        files = list_files(self.path) if self.path.is_dir() else {_step(self.path): self.path}
        for step, file in files.items():
            rows = read_rows(file)
            cots = [cot for row in rows for cot in cots_in(row)]
            metrics = averaged(translate(row) for row in rows) | texts.take(cots)
            yield Entry(step, metrics, next((cot.text for cot in cots), ""))


def list_files(folder: Path) -> dict[int, Path]:
    """Return the files of a folder by their step, in order; none where there is no such folder."""
    return dict(sorted((_step(path), path) for path in folder.glob(PATTERN) if _NAME.fullmatch(path.name)))


def cots_at(files: Mapping[int, Path], step: int) -> list[Cot]:
    """Return the completions of a step, of those in `list_files`."""
    return [cot for row in read_rows(files[step]) for cot in cots_in(row)] if step in files else []


def read_rows(file: Path) -> list[dict[str, Any]]:
    """Return a file's rows. Raises `UserError` where it cannot be read."""
    import pyarrow  # type: ignore[import-untyped]
    from pyarrow import parquet

    try:
        rows: list[dict[str, Any]] = parquet.read_table(file).to_pylist()
    except (OSError, pyarrow.ArrowException) as error:
        raise UserError(f"log {file}: is no Parquet file that can be read ({type(error).__name__})") from None
    return rows


def _step(path: Path) -> int:
    match = _NAME.fullmatch(path.name)
    if match is None:
        raise UserError(f"log {path}: should be called completions_STEP.parquet, as TRL calls it")
    return int(match[1])
