"""What one file per dataset has to say about it, so that a single reader serves them all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from markov_cot.config import Data
from markov_cot.tasks.hub import Hub
from markov_cot.tasks.problem import Kind, Problem
from markov_cot.tasks.reading import Row, is_file, json_rows, table_rows
from markov_cot.tasks.splits import Role, question_key


@runtime_checkable
class Tokenizer(Protocol):
    """A tokenizer as transformers has them; "offset_mapping" of a fast one holds each token's span of characters."""

    def __call__(self, text: str, *, add_special_tokens: bool, return_offsets_mapping: bool, verbose: bool) -> Any: ...


@dataclass(frozen=True, slots=True)
class Found:
    """A published split on disk."""

    label: str
    """As its authors call it ("Dev", "val")."""
    role: Role
    paths: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a row comes from, and the settings it is read with."""

    split: str
    """The published split's label."""
    number: int
    file: str
    """The file's name; "" for the hub."""
    subsets: tuple[str, ...]
    data: Data
    tokenizer: Tokenizer | None = None

    @property
    def id(self) -> str:
        """A name for problems whose data has none."""
        return f"{self.split}-{self.number}"


Convert = Callable[[Any, Place], Sequence[Problem]]


@dataclass(frozen=True)
class Benchmark:
    """One dataset: where its rows are, in the original and the hub's form, and how each becomes problems."""

    name: str
    kind: Kind
    folder: str
    """Below `$MARKOV_COT_DATA`."""
    files: Callable[[Path, tuple[str, ...]], list[Found]]
    """The published splits that a folder holds, for the chosen subsets; none when it is not the dataset's folder."""
    hub: Callable[[tuple[str, ...]], Hub]
    original: Convert
    hub_form: Convert
    file_rows: Callable[[Path], Iterator[Row]] = json_rows
    hub_rows: Callable[[Iterable[Mapping[str, Any]]], Iterator[Row]] = table_rows
    key: Callable[[Problem], str] = question_key
    """Problems of equal key never land in different splits."""
    subsets: tuple[str, ...] = ()
    several_subsets: bool = False
    """Any number of subsets at once, all by default; otherwise exactly one, the first by default."""
    when_empty: str = ""
    """What to do when a split gives no problem."""


def one(convert: Callable[[Any, Place], Problem]) -> Convert:
    """A `Convert` for datasets whose rows are one problem each."""
    return lambda row, place: (convert(row, place),)


def find_file(folder: Path, *names: str) -> Path | None:
    """The first of `names` that is a file in `folder`, plain or with ".gz" added."""
    paths = (folder / f"{name}{suffix}" for name in names for suffix in ("", ".gz"))
    return next((path for path in paths if is_file(path)), None)


def split_files(folder: Path, *splits: tuple[str, Role, tuple[str, ...]]) -> list[Found]:
    """The splits (label, role, names its file may have) whose file is in `folder`."""
    found = ((label, role, find_file(folder, *names)) for label, role, names in splits)
    return [Found(label, role, (path,)) for label, role, path in found if path]
