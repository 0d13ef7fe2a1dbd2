"""`load`: from the settings of a run to its problems."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from markov_cot.config.schema import Data
from markov_cot.data.catalog import BENCHMARKS, choose_subsets, find_local, nearest, where_looked
from markov_cot.data.code import load_code
from markov_cot.data.dataset import Dataset, SplitFiles, Tokenizer
from markov_cot.data.generated import KINDS, load_generated
from markov_cot.data.hub import HubError, OpenHub, open_first, open_hub
from markov_cot.data.own import is_path, load_own
from markov_cot.data.reader import Reader
from markov_cot.data.reading import as_path, table_rows
from markov_cot.data.splits import Published, Splits, assign
from markov_cot.utils.errors import UserError
from markov_cot.utils.plugins import is_code
from markov_cot.utils.text import is_unicode, visible


@dataclass(frozen=True, slots=True)
class PublishedSplits:
    """A dataset as its authors split it."""

    splits: Sequence[Published]
    source: str
    """As in `Splits`."""
    skipped: int
    """Broken rows left out."""
    note: str
    """What the user should know about where they come from; may be empty."""


def load(config: Data, tokenizer: Tokenizer | None = None, *, open_hub: OpenHub = open_hub) -> Splits:
    """The dataset `config` names, in three disjoint splits.

    Published datasets are looked for in `config.data_dir`, then below `$MARKOV_COT_DATA`, then on the hub.

    Args:
        tokenizer: the model's, fast; only continuations (wiki) need it.
        open_hub: reads a dataset of the hub; tests put tables of their own here.

    Raises:
        UserError: unknown dataset or subset, data not found, a file or row that is broken.
    """
    name = config.dataset
    if not is_unicode(name):
        raise UserError(f"dataset {visible(name)}: its name is not UTF-8; rename the file")
    if config.swap and not (name in BENCHMARKS and BENCHMARKS[name].swap):
        able = ", ".join(bench.name for bench in BENCHMARKS.values() if bench.swap)
        raise UserError(f"data.swap: swaps compared responses, and {name} has none (only {able}); set it to false")
    if is_code(name):
        return load_code(config)
    if name not in dataset_names():
        if not is_path(name):
            known = nearest(name, dataset_names())
            raise UserError(f"dataset {name!r}: not known{known}; a file or folder of your own is given by its path")
        return load_own(config)
    if config.kind:
        raise UserError(f"data.kind: goes with data of your own, and {name} has its own; leave it out")
    if config.validation or config.test:
        setting = "data.validation" if config.validation else "data.test"
        raise UserError(f"{setting}: goes with training data of your own, and {name} has its own; leave it out")
    if name in KINDS:
        if config.subset:
            raise UserError(f"data.subset {config.subset!r}: {name} has no subsets; leave the setting out")
        return load_generated(config)
    return _load_benchmark(BENCHMARKS[name], config, tokenizer, open_hub)


def dataset_names() -> list[str]:
    """All names `load` knows."""
    return [*BENCHMARKS, *KINDS]


def load_published(
    config: Data, tokenizer: Tokenizer | None = None, *, open_hub: OpenHub = open_hub
) -> PublishedSplits:
    """A published dataset in the splits that its authors made, for what is compared with others' numbers.

    Arguments and errors as those of `load`.
    """
    if config.dataset not in BENCHMARKS:
        raise UserError(f"dataset {config.dataset!r}: is not a published one{nearest(config.dataset, BENCHMARKS)}")
    return _read_benchmark(BENCHMARKS[config.dataset], config, tokenizer, open_hub)


def _load_benchmark(bench: Dataset, config: Data, tokenizer: Tokenizer | None, open_hub: OpenHub) -> Splits:
    found = _read_benchmark(bench, config, tokenizer, open_hub)
    splits = assign(found.splits, bench.key, bench.hold_out)
    note = "; ".join(part for part in (found.note, splits.note) if part)
    train = bench.swap(splits.train) if bench.swap and config.swap else splits.train
    return Splits(bench.name, train, splits.validation, splits.test, found.source, found.skipped, note)


def _read_benchmark(bench: Dataset, config: Data, tokenizer: Tokenizer | None, open_hub: OpenHub) -> PublishedSplits:
    subsets = choose_subsets(bench, config.subset)
    reader = Reader(config, subsets, tokenizer)
    local = find_local(bench, config.data_dir, subsets)
    if local:
        folder, files = local
        source = str(folder)
        published = [_from_files(bench, reader, found) for found in files]
    else:
        source, published = _from_hub(bench, reader, config, subsets, open_hub)
    if config.revision and local:
        raise UserError(
            f"data.revision {config.revision}: is of the hub, and {bench.name} was found in {source}; leave one out"
        )
    notes = [_ignored_folder(bench, config, source), bench.note(folder, subsets) if local else ""]
    return PublishedSplits(published, source, reader.skipped, "; ".join(filter(None, notes)))


def _from_files(bench: Dataset, reader: Reader, found: SplitFiles) -> Published:
    where = found.paths[0] if len(found.paths) == 1 else found.paths[0].parent
    if found.is_hub_form:
        problems = reader.read(bench.rows(found), bench.hub_form, found.label, "", str(where))
    else:
        problems = []
        for path in found.paths:
            problems += reader.read(bench.file_rows(path), bench.original, found.label, path.name, str(path))
    return reader.published(Published(found.label, found.role, problems), str(where), bench.when_empty)


def _from_hub(
    bench: Dataset, reader: Reader, config: Data, subsets: tuple[str, ...], open_hub: OpenHub
) -> tuple[str, list[Published]]:
    hub = bench.hub(subsets)
    opener = functools.partial(open_hub, revision=config.revision) if config.revision else open_hub
    looked = where_looked(bench, config.data_dir)
    if not hub.ids:
        raise UserError(f"dataset {bench.name}: not found in {looked}; get all its files, from {hub.elsewhere}")
    try:
        dataset_id, tables = open_first(hub, opener)
    except HubError as error:
        raise UserError(
            f"dataset {bench.name}: not found in {looked} or on the hub ({error}); give one of the three"
        ) from None
    source = f"hub:{dataset_id}" + (f" ({hub.config})" if hub.config else "")
    published = []
    for label, role in hub.splits.items():
        if label in tables:
            rows = bench.hub_rows(table_rows(tables[label]))
            problems = reader.read(rows, bench.hub_form, label, "", source, f" of split {label}")
            split = Published(label, role, problems)
            published.append(reader.published(split, f"{source} split {label}", bench.when_empty))
    if not published:
        raise UserError(f"{source}: has none of the splits {', '.join(hub.splits)}; is it the right dataset?")
    return source, published


def _ignored_folder(bench: Dataset, config: Data, source: str) -> str:
    """Says so when `--data-dir` was given but another place was read."""
    if not config.data_dir:
        return ""
    if Path(source).is_relative_to(as_path(config.data_dir)):
        return ""
    return f"--data-dir {config.data_dir} holds no files of {bench.name}, so {source} was read"
