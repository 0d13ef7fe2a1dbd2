"""Files whose rows have named columns, whatever their format: JSON, CSV, Parquet, or a folder saved by `datasets`."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from markov_cot.data.arrow import parquet_count, parquet_rows, saved_rows
from markov_cot.data.reading import Row, is_dir, is_file, json_rows, read_text
from markov_cot.utils.errors import UserError

JSON_SUFFIXES = (".jsonl", ".ndjson", ".json")
CELL_SUFFIXES = (".csv", ".tsv")
PARQUET = ".parquet"
SUFFIXES = (*JSON_SUFFIXES, *CELL_SUFFIXES, PARQUET)


def suffix_of(name: str) -> str:
    """Which of `SUFFIXES` a file's name ends in, in any case and with or without ".gz"; "" for none."""
    bare = name.lower().removesuffix(".gz")
    found = next((suffix for suffix in SUFFIXES if bare.endswith(suffix)), "")
    return "" if found == PARQUET and name.lower().endswith(".gz") else found


def stem_of(name: str) -> str:
    """A file's or folder's name without what `suffix_of` finds."""
    suffix = suffix_of(name)
    return name[: name.lower().rindex(suffix)] if suffix else name


def is_saved(folder: Path) -> bool:
    """Whether it is one split as `save_to_disk` of `datasets` leaves it."""
    return is_file(folder / "state.json") and is_file(folder / "dataset_info.json")


def table_count(path: Path) -> int:
    """How many rows `rows_of` would give; of Parquet without reading them."""
    if suffix_of(path.name) != PARQUET:
        return sum(1 for _ in rows_of(path))
    return parquet_count(path)


def rows_of(path: Path) -> Iterator[Row]:
    """A table's rows, each a mapping from column to value. Cells of CSV files are text."""
    suffix = suffix_of(path.name)
    if is_dir(path) and is_saved(path):
        return saved_rows(path)
    if suffix in CELL_SUFFIXES:
        return _cell_rows(path, "\t" if suffix == ".tsv" else None)
    return parquet_rows(path) if suffix == PARQUET else json_rows(path)


def rows_of_all(paths: Sequence[Path]) -> Iterator[Row]:
    """The rows of several files, counted through; each still says where it is in its own."""
    if len(paths) == 1:
        yield from rows_of(paths[0])
        return
    number = 0
    for path in paths:
        for row in rows_of(path):
            number += 1
            yield replace(row, number=number, place=f"{path} {row.unit} {row.number}")


def _cell_rows(path: Path, delimiter: str | None) -> Iterator[Row]:
    """Rows of a CSV file with a header; commas between the cells, or what the header has instead of them."""
    text = read_text(path)
    header = text.lstrip("\r\n").split("\n", 1)[0]
    if delimiter is None:
        delimiter = next((mark for mark in ",;\t" if mark in header), ",")
    # Strict, because otherwise a quote that is never closed swallows the rest of the file.
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    names: list[str] = []
    start = 1
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                if names:
                    yield _cell_row(start, names, cells)
                else:
                    names = _names(path, start, cells)
            start = reader.line_num + 1
    except csv.Error as error:
        raise UserError(f"{path} line {start}: not CSV ({error}); correct the file") from None


def _cell_row(line: int, names: list[str], cells: list[str]) -> Row:
    if len(cells) != len(names):
        return Row(line, "line", fault=f"expected {len(names)} cells, as in the header, got {len(cells)}")
    return Row(line, "line", dict(zip(names, cells, strict=True)))


def _names(path: Path, line: int, cells: list[str]) -> list[str]:
    names = [cell.strip() for cell in cells]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UserError(f"{path} line {line}: the header has {twice!r} twice; give each column a name of its own")
    return names
