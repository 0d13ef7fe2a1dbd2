"""Anyone's own data: one file, a folder of train, validation and test files, or a file for each of them."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from markov_cot.config.schema import Data
from markov_cot.data import jsonl
from markov_cot.data.cells import from_cells
from markov_cot.data.dataset import SplitFiles, one
from markov_cot.data.folders import Tables, check_parts, subfolders_of, tables_in
from markov_cot.data.kinds import kind_of_rows
from markov_cot.data.problem import Problem
from markov_cot.data.reader import Reader, place_of
from markov_cot.data.reading import Row, as_path, is_dir, is_file
from markov_cot.data.splits import Published, Role, Splits, assign_own
from markov_cot.data.tables import CELL_SUFFIXES, SUFFIXES, is_saved, rows_of_all, stem_of, suffix_of
from markov_cot.grading.kinds import Kind
from markov_cot.utils.errors import UserError
from markov_cot.utils.plugins import is_code

_WORDS: dict[str, Role] = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
}
_WORD = re.compile(rf"(?<![a-z])({'|'.join(_WORDS)})(?![a-z])", re.IGNORECASE)
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_ENDINGS = f"{', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}"
DEPTH = 3
"""Folders within folders that are looked into."""

Layout = tuple[list[SplitFiles], str]
"""Splits, and what else should be known about the files."""


def is_path(dataset: str) -> bool:
    """Whether `data.dataset` is meant as a path, and not as a name."""
    path = as_path(dataset)
    written = bool(suffix_of(dataset)) or "/" in dataset or "\\" in dataset
    return written or (bool(dataset) and (is_file(path) or is_dir(path)))


def own_name(dataset: str) -> str:
    """What one's own data is called in tables and metrics: a file's name without ending, or a function's name."""
    if is_code(dataset):
        return dataset.partition(":")[2]
    path = Path(os.path.abspath(as_path(dataset)))  # noqa: PTH100 - a link keeps its own name
    return stem_of(path.name) or "data"


def same_data(dataset: str, other: str) -> bool:
    """Whether two values of `data.dataset` name the same data, as two spellings of a path do."""
    if dataset == other:
        return True
    real = {os.path.realpath(as_path(each)) for each in (dataset, other)}
    return is_path(dataset) and is_path(other) and len(real) == 1


def load_own(config: Data) -> Splits:
    """The splits of the file or folder that `config.dataset` names, with those of `config.validation` and `.test`."""
    if config.subset:
        raise UserError(f"data.subset {config.subset!r}: a file of one's own has no subsets; leave the setting out")
    path = as_path(config.dataset)
    found, note = _layout(path)
    more: tuple[tuple[Role, str | None], ...] = (("validation", config.validation), ("test", config.test))
    for role, setting in more:
        if setting:
            if any(split.role == role for split in found):
                raise UserError(f"data.{role} {setting}: {path} has a file for {role}, too; leave one of them out")
            found.append(SplitFiles(role, role, _one_table(as_path(setting), f"data.{role}")))
    reader = Reader(config)
    if len(found) > 1:  # files of one name must not give their problems the same ids
        found = [SplitFiles(split.role, split.role, split.paths) for split in found]
    rows = {split.role: list(rows_of_all(split.paths)) for split in found}
    kind = config.kind or kind_of_rows(
        ((place_of(row, _where(split)), row) for split in found for row in rows[split.role]),
        str(path),
        cells=any(_has_cells(split) for split in found),
    )
    assigned = assign_own([_read(reader, split, rows[split.role], kind) for split in found])
    notes = "; ".join(part for part in (assigned.note, note) if part)
    name = own_name(config.dataset)
    return Splits(name, assigned.train, assigned.validation, assigned.test, str(path), reader.skipped, notes)


def read_rows(file: str, config: Data, setting: str, kind: Kind) -> tuple[list[Problem], int]:
    """Return the problems of one kind in a file that `setting` names, in its order, and how many rows were skipped.

    Raises `UserError` as `load_own` does.
    """
    found, reader = SplitFiles(own_name(file), "train", _one_table(as_path(file), setting)), Reader(config)
    return list(_read(reader, found, rows_of_all(found.paths), kind).problems), reader.skipped


def _has_cells(found: SplitFiles) -> bool:
    return suffix_of(found.paths[0].name) in CELL_SUFFIXES


def _where(found: SplitFiles) -> str:
    return str(found.paths[0] if len(found.paths) == 1 else found.paths[0].parent)


def _read(reader: Reader, found: SplitFiles, rows: Iterable[Row], kind: Kind | None) -> Published:
    where = _where(found)
    convert = one(from_cells if _has_cells(found) else jsonl.from_row)
    problems = reader.read(rows, convert, found.label, found.paths[0].name, where, kind=kind)
    return reader.published(Published(found.label, found.role, problems), where)


def _layout(path: Path) -> Layout:
    """The splits at a path. The only file at it has no role yet, and is called as it is named."""
    if not is_dir(path) or is_saved(path):
        return [SplitFiles(own_name(str(path)), "train", _one_table(path, ""))], ""
    named = _named_splits(path, DEPTH)
    if len(named) > 1:
        folders = ", ".join(str(folder) for folder, _ in named)
        raise UserError(f"{path}: holds several sets of splits; give one of its folders: {folders}")
    if not named:
        return _unnamed(path), ""
    [(folder, tables)] = named
    roles = _by_role(tables)
    found = [SplitFiles(role, role, _merged(folder, role, tables, names)) for role, names in roles.items()]
    left = sorted(set(tables) - {name for names in roles.values() for name in names})
    why = "not read, because their names say neither train nor validation nor test"
    return found, f"{why}: {', '.join(left)}" if left else ""


def _named_splits(folder: Path, depth: int) -> list[tuple[Path, Tables]]:
    """The tables of the folder whose names say for which split they are; else those of the folders within."""
    within = subfolders_of(folder)
    tables = tables_in(folder, [inner.name for inner in within if _role(inner.name)])
    if _by_role(tables):
        return [(folder, tables)]
    return [found for inner in within if depth for found in _named_splits(inner, depth - 1)]


def _unnamed(folder: Path) -> list[SplitFiles]:
    """The only table of a folder."""
    tables = tables_in(folder)
    if len(tables) > 1:
        raise UserError(
            f"{folder}: none of {', '.join(sorted(tables))} says for which split it is; name the files train, "
            "validation and test, or give one of them"
        )
    for name, paths in tables.items():
        check_parts(folder, name, paths)
        return [SplitFiles(own_name(str(folder)), "train", paths)]
    raise UserError(f"{folder}: holds no data; give a folder with {_ENDINGS} files, or a file")


def _by_role(tables: Tables) -> dict[Role, list[str]]:
    roles: dict[Role, list[str]] = defaultdict(list)
    for name in tables:
        if role := _role(name):
            roles[role].append(name)
    return dict(roles)


def _role(name: str) -> Role | None:
    """The split that a file's name speaks of, if it speaks of one."""
    roles = {_WORDS[word.lower()] for word in _WORD.findall(name.replace("_", "-"))}
    return roles.pop() if len(roles) == 1 else None


def _merged(folder: Path, role: Role, tables: Tables, names: Iterable[str]) -> tuple[Path, ...]:
    """The files of one split. Files whose names differ in a number are its parts."""
    names = list(names)
    forms = {(re.sub("[0-9]+", "0", name), suffix_of(path.name)) for name in names for path in tables[name]}
    if len(names) > 1 and len(forms) > 1:
        raise UserError(f"{folder}: {' and '.join(names)} are both for {role}; leave one of them in the folder")
    for name in names:
        check_parts(folder, name, tables[name])
    return tuple(path for name in names for path in tables[name])


def _one_table(path: Path, setting: str) -> tuple[Path, ...]:
    """The files of one split that a path names. `setting` is where it was given, if not as the dataset."""
    where = f"{setting} {path}" if setting else str(path)
    if is_dir(path) and not is_saved(path):
        tables = tables_in(path)
        if len(tables) != 1:
            raise UserError(f"{where}: is a folder with {len(tables)} tables; name the file in it")
        [(name, paths)] = tables.items()
        check_parts(path, name, paths)
        return paths
    if not is_file(path) and not is_dir(path):
        raise UserError(f"{where}: does not exist; {_way_out(str(path))}")
    if not is_saved(path) and not suffix_of(path.name):
        raise UserError(f"{where}: its name does not say what it is; data are {_ENDINGS} files, or a folder of them")
    return (path,)


def _way_out(path: str) -> str:
    if "\\" in path and os.sep != "\\":
        return "check the path, whose folders are separated by '/' on this system"
    if _HUB_ID.fullmatch(path) and not suffix_of(path):
        return (
            "check the path. Of the hub's datasets only those that `markov-cot datasets` lists are known by name; get "
            f"others with `hf download {path} --repo-type dataset --local-dir FOLDER` and give the folder"
        )
    return "check the path"
