"""`load`: from the settings of a run to its problems."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from pathlib import Path

from markov_cot.config import Data
from markov_cot.errors import UserError
from markov_cot.tasks import jsonl
from markov_cot.tasks.benchmark import Benchmark, Convert, Found, Place, Tokenizer, one
from markov_cot.tasks.benchmarks import BENCHMARKS, choose_subsets, find_local, nearest, where_looked
from markov_cot.tasks.fields import RowError
from markov_cot.tasks.generated import KINDS, load_generated
from markov_cot.tasks.hub import HubError, OpenHub, open_first, open_hub
from markov_cot.tasks.problem import Problem
from markov_cot.tasks.reading import Row, json_rows
from markov_cot.tasks.splits import Published, Splits, assign
from markov_cot.text import is_unicode, visible


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
    if name.endswith(jsonl.SUFFIXES):
        return _load_jsonl(config)
    if name in KINDS:
        if config.subset:
            raise UserError(f"data.subset {config.subset!r}: {name} has no subsets; leave the setting out")
        return load_generated(config)
    if name in BENCHMARKS:
        return _load_benchmark(BENCHMARKS[name], config, tokenizer, open_hub)
    known = nearest(name, dataset_names())
    raise UserError(f"dataset {name!r}: not known{known}; the path of your own file must end in .jsonl or .jsonl.gz")


def dataset_names() -> list[str]:
    """All names `load` knows."""
    return [*BENCHMARKS, *KINDS]


class _Reader:
    """Turns rows into problems under one set of settings, and counts the broken rows it leaves out."""

    def __init__(self, config: Data, subsets: tuple[str, ...] = (), tokenizer: Tokenizer | None = None) -> None:
        self.skipped = 0
        self._config, self._subsets, self._tokenizer = config, subsets, tokenizer
        self._first_fault = ""

    def read(
        self, rows: Iterable[Row], convert: Convert, split: str, file: str, where: str, suffix: str = ""
    ) -> list[Problem]:
        """The problems of `rows`. A message names a row as `where`, "line 3", `suffix`."""
        problems: list[Problem] = []
        for row in rows:
            place = Place(split, row.number, file, self._subsets, self._config, self._tokenizer)
            try:
                if row.fault:
                    raise RowError(row.fault)
                problems += convert(row.value, place)
            except RowError as error:
                message = f"{where} {row.unit} {row.number}{suffix}: {error}"
                if not self._config.skip_bad_rows:
                    raise UserError(f"{message}; mend the row or pass --skip-bad-rows") from None
                self.skipped += 1
                self._first_fault = self._first_fault or message
        return problems

    def published(self, found: Published, where: str, advice: str = "") -> Published:
        """`found`, which must not be empty, once all its rows are read."""
        if not found.problems:
            reason = f"every row is broken, the first: {self._first_fault}" if self._first_fault else advice
            raise UserError(f"{where}: gives no problem; {reason or 'is it the right file?'}")
        self._first_fault = ""
        return found


def _load_jsonl(config: Data) -> Splits:
    path = Path(config.dataset).expanduser()
    if config.subset:
        raise UserError(f"data.subset {config.subset!r}: a JSONL file has no subsets; leave the setting out")
    reader = _Reader(config)
    label = path.name.removesuffix(".gz").removesuffix(".jsonl")
    problems = reader.read(json_rows(path), one(jsonl.from_row), label, path.name, str(path))
    only = reader.published(Published(label, "train", problems), str(path))
    splits = assign([only])
    return Splits(label, splits.train, splits.validation, splits.test, str(path), reader.skipped, splits.note)


def _load_benchmark(bench: Benchmark, config: Data, tokenizer: Tokenizer | None, open_hub: OpenHub) -> Splits:
    subsets = choose_subsets(bench, config.subset)
    reader = _Reader(config, subsets, tokenizer)
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
    splits = assign(published, bench.key)
    notes = [_ignored_folder(bench, config, source), splits.note]
    note = "; ".join(part for part in notes if part)
    return Splits(bench.name, splits.train, splits.validation, splits.test, source, reader.skipped, note)


def _from_files(bench: Benchmark, reader: _Reader, found: Found) -> Published:
    problems: list[Problem] = []
    for path in found.paths:
        problems += reader.read(bench.file_rows(path), bench.original, found.label, path.name, str(path))
    where = found.paths[0] if len(found.paths) == 1 else found.paths[0].parent
    return reader.published(Published(found.label, found.role, problems), str(where), bench.when_empty)


def _from_hub(
    bench: Benchmark, reader: _Reader, config: Data, subsets: tuple[str, ...], open_hub: OpenHub
) -> tuple[str, list[Published]]:
    hub = bench.hub(subsets)
    opener = functools.partial(open_hub, revision=config.revision) if config.revision else open_hub
    looked = where_looked(bench, config.data_dir)
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
            rows = bench.hub_rows(tables[label])
            problems = reader.read(rows, bench.hub_form, label, "", source, f" of split {label}")
            split = Published(label, role, problems)
            published.append(reader.published(split, f"{source} split {label}", bench.when_empty))
    if not published:
        raise UserError(f"{source}: has none of the splits {', '.join(hub.splits)}; is it the right dataset?")
    return source, published


def _ignored_folder(bench: Benchmark, config: Data, source: str) -> str:
    """Says so when `--data-dir` was given but another place was read."""
    if not config.data_dir:
        return ""
    given = Path(config.data_dir).expanduser()
    if source in (str(given), str(given / bench.folder)):
        return ""
    return f"--data-dir {config.data_dir} holds no files of {bench.name}, so {source} was read"
