"""Hand-made files and tables, and tokenizers small enough to count by hand."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from markov_cot.config.schema import Data
from markov_cot.data.dataset import RowContext
from markov_cot.data.hub import HubError, Table
from markov_cot.data.registry import load
from markov_cot.data.splits import Splits
from tests.pattern_tokenizer import PatternTokenizer


@pytest.fixture(autouse=True)
def _no_data_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MARKOV_COT_DATA", raising=False)


@pytest.fixture
def word_tokenizer() -> PatternTokenizer:
    return PatternTokenizer(r"\s*\S+")


@pytest.fixture
def character_tokenizer() -> PatternTokenizer:
    return PatternTokenizer(r".")


@pytest.fixture
def place() -> Callable[..., RowContext]:
    """A place in row 7 of split "dev"."""

    def make(split: str = "dev", file: str = "", subsets: tuple[str, ...] = (), **data: Any) -> RowContext:
        return RowContext(split, 7, file, subsets, Data(**data))

    return make


@pytest.fixture
def offline() -> Callable[[str, str | None], Mapping[str, Table]]:
    """A hub that cannot be reached."""

    def open_nothing(dataset_id: str, config: str | None) -> Mapping[str, Table]:
        raise HubError("no connection")

    return open_nothing


@pytest.fixture
def load_files(tmp_path: Path, offline: Any, word_tokenizer: PatternTokenizer) -> Callable[..., Splits]:
    """Loads a dataset from files of these contents; rows (a list) are written as JSONL."""

    def load_them(dataset: str, files: Mapping[str, str | bytes | list[Any]], **data: Any) -> Splits:
        for name, content in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, list):
                content = "".join(json.dumps(row) + "\n" for row in content)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        config = Data(dataset=dataset, data_dir=str(tmp_path), **data)
        return load(config, word_tokenizer, open_hub=offline)

    return load_them


@pytest.fixture
def load_hub(word_tokenizer: PatternTokenizer) -> Callable[..., Splits]:
    """Loads a dataset from tables of the hub's schema, checking what would be asked of the hub."""

    def load_them(
        dataset: str, expected_id: str, expected_config: str | None, tables: Mapping[str, list[Any]], **data: Any
    ) -> Splits:
        datasets = pytest.importorskip("datasets")

        def open_tables(dataset_id: str, config: str | None) -> Mapping[str, Table]:
            if (dataset_id, config) != (expected_id, expected_config):
                raise HubError(f"asked for {dataset_id} {config}")
            made: Mapping[str, Table] = datasets.DatasetDict(
                {split: datasets.Dataset.from_list(rows) for split, rows in tables.items()}
            )
            return made

        return load(Data(dataset=dataset, **data), word_tokenizer, open_hub=open_tables)

    return load_them
