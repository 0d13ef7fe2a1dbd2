"""Rows of Arrow tables: Parquet files, and folders saved by `datasets`. Nothing is copied into a cache."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

from markov_cot.data.reading import LFS_POINTER, Row, check_not_pointer, is_dir, is_file
from markov_cot.utils.errors import UserError

BATCH = 1024


def parquet_rows(path: Path) -> Iterator[Row]:
    """Rows of a Parquet file."""
    number = 0
    with _faults(path, "a Parquet file"):
        for batch in _parquet(path).iter_batches(BATCH):
            for value in _rows(batch):
                number += 1
                yield Row(number, "row", value)


def parquet_count(path: Path) -> int:
    """How many rows a Parquet file has, without reading them."""
    with _faults(path, "a Parquet file"):
        return int(_parquet(path).metadata.num_rows)


def saved_rows(folder: Path) -> Iterator[Row]:
    """Rows of one split that `save_to_disk` of `datasets` wrote."""
    import datasets

    number = 0
    with _faults(folder, "a folder saved by datasets"):
        with _without_progress_bars():
            table = datasets.load_from_disk(str(folder)).with_format("arrow")
        for batch in table.iter(BATCH):
            for value in _rows(batch):
                number += 1
                yield Row(number, "row", value)


def _parquet(path: Path) -> Any:
    import pyarrow.parquet as parquet  # type: ignore[import-untyped]

    if is_dir(path):
        raise UserError(f"{path}: is a folder, not a file; name the file in it")
    if not is_file(path):
        raise UserError(f"{path}: does not exist; check the path")
    with path.open("rb") as file:
        check_not_pointer(path, file.read(len(LFS_POINTER)))
    return parquet.ParquetFile(path)


def _rows(batch: Any) -> Iterator[dict[str, Any]]:
    """Rows of a table or a record batch, in Python's own types."""
    columns = [_values(column) for column in batch.columns]
    names = batch.schema.names
    return (dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True))


def _values(column: Any) -> list[Any]:
    import numpy as np
    import pyarrow as pa

    kind = column.type
    if pa.types.is_temporal(kind):  # no field of a problem; some of them only pandas can hold
        column = column.cast(pa.string())
    elif pa.types.is_float16(kind) or pa.types.is_float32(kind):
        # 0.1 as a float32 is 0.10000000149 as a float of Python's; what was meant is the shortest text for it.
        precision = np.float16 if pa.types.is_float16(kind) else np.float32
        return [None if value is None else float(str(precision(value))) for value in column.to_pylist()]
    return [_plain(value) for value in column.to_pylist()]


def _plain(value: Any) -> Any:
    """Decimals and bytes as the text they stand for."""
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, bytes):
        with contextlib.suppress(UnicodeDecodeError):
            return value.decode()
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value


@contextlib.contextmanager
def _faults(path: Path, what: str) -> Iterator[None]:
    import pyarrow as pa

    try:
        yield
    except PermissionError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check its permissions") from None
    except UserError:
        raise
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f"{path}: is not {what}, or a broken one ({reason[:200]}); fetch or write it again") from None


@contextlib.contextmanager
def _without_progress_bars() -> Iterator[None]:
    import datasets

    shown = not datasets.utils.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            datasets.enable_progress_bars()
