"""Values of Arrow tables as Python's own."""

from __future__ import annotations

import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from markov_cot.config.schema import Data
from markov_cot.data.registry import load
from markov_cot.data.tables import rows_of
from markov_cot.utils.errors import UserError

arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")


def write(path: Path, columns: dict[str, Any]) -> Path:
    parquet.write_table(arrow.table(columns), path)
    return path


def test_values(tmp_path: Path) -> None:
    columns = {
        "half": arrow.array([0.1, None], arrow.float16()),
        "single": arrow.array([0.1, 16777216.0], arrow.float32()),
        "double": [0.1, 5e-324],
        "whole": arrow.array([2**63, 0], arrow.uint64()),
        "exact": [Decimal("1.50"), None],
        "bytes": [b"caf\xc3\xa9", b"\xff"],
        "category": arrow.array(["x", "y"]).dictionary_encode(),
        "choices": [[{"label": "A", "text": b"x"}], []],
        "when": arrow.array([1, 2], arrow.timestamp("ns")),
        "yes": [True, None],
    }
    rows = [row.value for row in rows_of(write(tmp_path / "f.parquet", columns))]
    assert rows[0] == {
        "half": 0.1,
        "single": 0.1,
        "double": 0.1,
        "whole": 2**63,
        "exact": "1.50",
        "bytes": "café",
        "category": "x",
        "choices": [{"label": "A", "text": "x"}],
        "when": "1970-01-01 00:00:00.000000001",
        "yes": True,
    }
    assert (rows[1]["half"], rows[1]["exact"], rows[1]["bytes"]) == (None, None, b"\xff")


def test_answers_of_every_type_of_column(tmp_path: Path) -> None:
    for kind, values in (
        (arrow.int8(), [1, 2, 3]),
        (arrow.float32(), [0.1, 0.2, 0.3]),
        (arrow.decimal128(5, 2), [Decimal("1.50"), Decimal("2.00"), Decimal("3.25")]),
        (arrow.string(), ["1,000", " 2 ", "3.0"]),
    ):
        columns = {"question": ["a", "b", "c"], "answer": arrow.array(values, kind), "picture": [b"\xff"] * 3}
        splits = load(Data(dataset=str(write(tmp_path / "f.parquet", columns))))
        problems = sorted([*splits.train, *splits.validation, *splits.test], key=lambda problem: problem.question)
        plain = [str(value).strip().replace(",", "") for value in values]
        assert [problem.answer for problem in problems] == [
            text.rstrip("0").rstrip(".") if "." in text else text for text in plain
        ]


def test_rows_over_several_batches_are_numbered(tmp_path: Path) -> None:
    columns = {"question": [f"q{i}" for i in range(3000)], "answer": [*range(2999), None]}
    with pytest.raises(UserError, match=r"f\.parquet row 3000: answer: expected a number, got nothing \(null\); fix"):
        load(Data(dataset=str(write(tmp_path / "f.parquet", columns))))


def test_dates_of_datasets_do_not_matter(tmp_path: Path) -> None:
    columns = {"question": ["a", "b", "c"], "answer": [1, 2, 3], "day": [datetime.date(2020, 1, 2)] * 3}
    assert load(Data(dataset=str(write(tmp_path / "f.parquet", columns)))).skipped == 0


@pytest.mark.parametrize("make", [Path.mkdir, lambda path: None])
def test_paths_that_are_no_file(tmp_path: Path, make: Any) -> None:
    make(tmp_path / "f.parquet")
    with pytest.raises(UserError, match=r"f\.parquet: (holds no data|does not exist)"):
        load(Data(dataset=str(tmp_path / "f.parquet")))
