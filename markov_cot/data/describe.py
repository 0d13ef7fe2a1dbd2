"""What `markov-cot datasets` lists. Reads files on this machine only; never asks the hub."""

from __future__ import annotations

from dataclasses import dataclass, field

from markov_cot.data.catalog import BENCHMARKS, find_local
from markov_cot.data.dataset import Dataset, SplitFiles
from markov_cot.data.generated import KINDS, SIZES
from markov_cot.data.tables import table_count
from markov_cot.grading.kinds import Kind
from markov_cot.utils.errors import UserError

MOST_LISTED = 4
"""Subsets of a dataset."""


@dataclass(frozen=True, slots=True)
class Listing:
    """One dataset, or one subset of a dataset that is read a subset at a time."""

    name: str
    kind: Kind
    subset: str | None
    """What `data.subset` must be for it; None for the default or where there are none."""
    source: str
    """The folder found, "hub: ID (not tried)", where to get files that are not on the hub, or "generated"."""
    splits: dict[str, int] = field(default_factory=dict)
    """Rows of each published split found (articles for wiki), broken rows included."""
    fault: str = ""
    """Why the files found cannot be read."""


def describe(data_dir: str | None = None) -> list[Listing]:
    """All datasets in the order of `dataset_names`, with the places they would be read from."""
    published = [
        _listing(bench, data_dir, subset) for bench in BENCHMARKS.values() for subset in _subsets(bench, data_dir)
    ]
    return published + [Listing(name, kind, None, "generated", dict(SIZES)) for name, kind in KINDS.items()]


def _subsets(bench: Dataset, data_dir: str | None) -> tuple[str | None, ...]:
    """A dataset's subsets, where they are few; of many that are read one at a time, the default and those found."""
    if len(bench.subsets) <= MOST_LISTED:
        return bench.subsets or (None,)
    if bench.several_subsets:
        return (None,)
    first, *others = bench.subsets
    return (first, *(subset for subset in others if find_local(bench, data_dir, (subset,))))


def _listing(bench: Dataset, data_dir: str | None, subset: str | None) -> Listing:
    subsets = (subset,) if subset else ()
    local = find_local(bench, data_dir, subsets)
    if not local:
        hub = bench.hub(subsets)
        source = f"hub: {hub} (not tried)" if hub.ids else f"not here; its files are at {hub.elsewhere}"
        return Listing(bench.name, bench.kind, subset, source)
    folder, found = local
    try:
        rows = {split.label: _count(bench, split) for split in found}
    except UserError as error:
        return Listing(bench.name, bench.kind, subset, str(folder), fault=str(error))
    return Listing(bench.name, bench.kind, subset, str(folder), rows)


def _count(bench: Dataset, found: SplitFiles) -> int:
    if found.is_hub_form and bench.hub_rows is iter:
        found.check()
        return sum(table_count(path) for path in found.paths)
    return sum(1 for _ in bench.rows(found))
