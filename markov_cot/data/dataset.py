"""What one file per dataset has to say about it, so that a single reader serves them all."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from markov_cot.config.schema import Data
from markov_cot.data.folders import check_parts, tables_in
from markov_cot.data.hub import Hub
from markov_cot.data.problem import Problem
from markov_cot.data.reading import Row, is_file, json_rows
from markov_cot.data.splits import HoldOut, Key, Role, by_hash, question_key
from markov_cot.data.tables import rows_of_all
from markov_cot.grading.kinds import Kind


@runtime_checkable
class Tokenizer(Protocol):
    """A tokenizer as transformers has them; "offset_mapping" of a fast one holds each token's span of characters."""

    def __call__(self, text: str, *, add_special_tokens: bool, return_offsets_mapping: bool, verbose: bool) -> Any: ...


@dataclass(frozen=True, slots=True)
class SplitFiles:
    """A published split on disk."""

    label: str
    """As its authors call it ("Dev", "val")."""
    role: Role
    paths: tuple[Path, ...]
    is_hub_form: bool = False
    """Whether its rows are as the hub has them, not as the authors published them."""

    def check(self) -> None:
        """Raises `UserError` when a part of a split in the hub's form is missing, or there twice."""
        for folder in dict.fromkeys(path.parent for path in self.paths):
            check_parts(folder, self.label, [path for path in self.paths if path.parent == folder])


@dataclass(frozen=True, slots=True)
class RowContext:
    """Where a row comes from, and the settings it is read with."""

    split: str
    """The published split's label."""
    number: int
    file: str
    """The file's name; "" for the hub."""
    subsets: tuple[str, ...]
    data: Data
    tokenizer: Tokenizer | None = None
    kind: Kind | None = None
    """Of rows of one's own: what the answers of all of them are."""

    @property
    def id(self) -> str:
        """A name for problems whose data has none."""
        return f"{self.split}-{self.number}"


Convert = Callable[[Any, RowContext], Sequence[Problem]]


@dataclass(frozen=True)
class Dataset:
    """One dataset: where its rows are, in the original and the hub's form, and how each becomes problems."""

    name: str
    kind: Kind
    folder: str
    """Below `$MARKOV_COT_DATA`."""
    files: Callable[[Path, tuple[str, ...]], list[SplitFiles]]
    """The published splits that a folder holds, for the chosen subsets; none when it is not the dataset's folder."""
    hub: Callable[[tuple[str, ...]], Hub]
    original: Convert
    hub_form: Convert
    file_rows: Callable[[Path], Iterator[Row]] = json_rows
    hub_rows: Callable[[Iterable[Row]], Iterable[Row]] = iter
    """The hub's rows as those that `hub_form` takes."""
    hub_files: Callable[[Path, Hub, tuple[str, ...]], tuple[Path, list[SplitFiles]] | None] | None = None
    """As `hub_files`, for a dataset whose folders are not like the others'."""
    key: Key = question_key
    """Problems of equal key never land in different splits."""
    hold_out: HoldOut = by_hash
    """Which keys are held out where a split is not published."""
    swap: Callable[[Sequence[Problem]], list[Problem]] | None = None
    """What the setting `data.swap` makes of the training problems; None where it has no meaning."""
    subsets: tuple[str, ...] = ()
    several_subsets: bool = False
    """Any number of subsets at once; otherwise exactly one, the first by default."""
    other_folders: tuple[str, ...] = ()
    """Below `$MARKOV_COT_DATA`, looked into after `folder`."""
    when_empty: str = ""
    """What to do when a split gives no problem."""
    note: Callable[[Path, tuple[str, ...]], str] = lambda folder, subsets: ""
    """What should be known about which of a folder's files are read."""

    def find(self, folder: Path, subsets: tuple[str, ...]) -> tuple[Path, list[SplitFiles]] | None:
        """The published splits in `folder`, and the folder within that has their files; None when there are none."""
        if found := self.files(folder, subsets):
            return folder, found
        return (self.hub_files or hub_files)(folder, self.hub(subsets), subsets)

    def rows(self, found: SplitFiles) -> Iterator[Row]:
        """The rows of a split on disk."""
        if found.is_hub_form:
            found.check()
            return iter(self.hub_rows(rows_of_all(found.paths)))
        return itertools.chain.from_iterable(self.file_rows(path) for path in found.paths)

    @property
    def folders(self) -> tuple[str, ...]:
        """What its folder may be called: as here, as on the hub, or otherwise."""
        on_hub = (name.rpartition("/")[2] for name in self.hub(self.subsets[:1]).ids)
        return tuple(dict.fromkeys((self.folder, *on_hub, *self.other_folders)))


def one(convert: Callable[[Any, RowContext], Problem]) -> Convert:
    """A `Convert` for datasets whose rows are one problem each."""
    return lambda row, place: (convert(row, place),)


def find_file(folder: Path, *names: str) -> Path | None:
    """The first of `names` that is a file in `folder`, plain or with ".gz" added."""
    paths = (folder / f"{name}{suffix}" for name in names for suffix in ("", ".gz"))
    return next((path for path in paths if is_file(path)), None)


def split_files(folder: Path, *splits: tuple[str, Role, tuple[str, ...]]) -> list[SplitFiles]:
    """The splits (label, role, names its file may have) whose file is in `folder`."""
    found = ((label, role, find_file(folder, *names)) for label, role, names in splits)
    return [SplitFiles(label, role, (path,)) for label, role, path in found if path]


def hub_files(folder: Path, hub: Hub, subsets: tuple[str, ...]) -> tuple[Path, list[SplitFiles]] | None:
    """The splits of a dataset as `hf download` or `save_to_disk` left it in `folder`, and which folder they are in.

    A dataset of which one subset is read at a time must have it in a folder of its own, as on the hub: nothing else
    tells the subsets apart.
    """
    configs = (hub.config, *hub.other_configs) if hub.config else ("data", "default")
    for name in (*configs, *(() if subsets else ("",))):
        tables = tables_in(folder / name, hub.splits)
        found = [SplitFiles(label, role, tables[label], True) for label, role in hub.splits.items() if label in tables]
        if found:
            return folder / name, found
    return None
