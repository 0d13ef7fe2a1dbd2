"""Which tables a folder holds: single files, the numbered parts that the hub has, and folders saved by `datasets`."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from markov_cot.data.reading import is_dir
from markov_cot.data.tables import is_saved, stem_of, suffix_of
from markov_cot.utils.errors import UserError

_PART = re.compile(r"-(\d{5})-of-(\d{5})(?:-[0-9a-f]+)?$")
_ABOUT = {"dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json"}
"""JSON files that describe tables and are none."""

Tables = dict[str, tuple[Path, ...]]


def tables_in(folder: Path, subfolders: Iterable[str] = ()) -> Tables:
    """Tables by name, each with its files: of "train-00000-of-00002.parquet" and its second part the name is "train".

    A folder within that is named in `subfolders`, or that `datasets` saved, is one table, too.
    """
    found: dict[str, list[Path]] = defaultdict(list)
    names = set(subfolders)
    for path in _entries(folder):
        if is_dir(path):
            if is_saved(path):
                found[path.name].append(path)
            elif path.name in names:
                found[path.name] += [inner for inner in _entries(path) if _is_table(inner)]
        elif _is_table(path):
            found[_PART.sub("", stem_of(path.name))].append(path)
    return {name: tuple(paths) for name, paths in found.items() if paths}


def check_parts(folder: Path, name: str, paths: Sequence[Path]) -> None:
    """Raises `UserError` unless the files are one table: one file, or all of its parts."""
    if len({suffix_of(path.name) for path in paths}) > 1 or (len(paths) > 1 and _same_stem(paths)):
        files = ", ".join(path.name for path in paths)
        raise UserError(f"{folder}: {name} is there more than once ({files}); leave one of them in the folder")
    for part in (_PART.search(stem_of(path.name)) for path in paths):
        if part and int(part[2]) != len(paths):
            raise UserError(
                f"{folder}: {name} has {int(part[2])} parts, and {len(paths)} of them are here; fetch the others, too"
            )


def subfolders_of(folder: Path) -> list[Path]:
    """The folders within that are not hidden (`hf download` keeps its notes in ".cache")."""
    return [path for path in _entries(folder) if is_dir(path)]


def _is_table(path: Path) -> bool:
    return bool(suffix_of(path.name)) and path.name not in _ABOUT and not is_dir(path)


def _same_stem(paths: Sequence[Path]) -> bool:
    """Whether two of the files differ in nothing but their endings, as train.jsonl and train.jsonl.gz."""
    return len({stem_of(path.name).lower() for path in paths}) < len(paths)


def _entries(folder: Path) -> list[Path]:
    if not is_dir(folder):
        return []
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith((".", "_")))
    except OSError as error:
        raise UserError(f"{folder}: cannot be read ({error.strerror}); check its permissions") from None
