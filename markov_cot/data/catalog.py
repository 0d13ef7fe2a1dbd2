"""The published datasets by name, and where each is found on this machine."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable
from pathlib import Path

from markov_cot.data.benchmarks.aqua import AQUA
from markov_cot.data.benchmarks.arc import ARC
from markov_cot.data.benchmarks.gsm8k import GSM8K
from markov_cot.data.benchmarks.hellaswag import HELLASWAG
from markov_cot.data.benchmarks.mathqa import MATHQA
from markov_cot.data.benchmarks.mmlu import MMLU
from markov_cot.data.benchmarks.preference import PREFERENCE
from markov_cot.data.benchmarks.squad import SQUAD, XQUAD
from markov_cot.data.benchmarks.svamp import SVAMP
from markov_cot.data.benchmarks.wiki import WIKI
from markov_cot.data.dataset import Dataset, SplitFiles
from markov_cot.data.reading import as_path, is_dir, is_file
from markov_cot.utils.errors import UserError

ENVIRONMENT = "MARKOV_COT_DATA"
BENCHMARKS = {
    bench.name: bench for bench in (GSM8K, SVAMP, AQUA, ARC, MMLU, MATHQA, HELLASWAG, SQUAD, XQUAD, WIKI, PREFERENCE)
}


def choose_subsets(bench: Dataset, subset: str | None) -> tuple[str, ...]:
    """The subsets that the setting `data.subset` names; () where a dataset has several at once and none is named."""
    names = tuple(part.strip() for part in (subset or "").split(",") if part.strip())
    if not names:
        return () if bench.several_subsets else bench.subsets[:1]
    if not bench.subsets:
        raise UserError(f"data.subset {subset!r}: {bench.name} has no subsets; leave the setting out")
    if len(names) > 1 and not bench.several_subsets:
        raise UserError(f"data.subset {subset!r}: {bench.name} takes one of {', '.join(bench.subsets)}")
    for name in names:
        if name not in bench.subsets:
            raise UserError(f"data.subset {name!r}: not in {bench.name}{nearest(name, bench.subsets)}")
    return names


def find_local(bench: Dataset, data_dir: str | None, subsets: tuple[str, ...]) -> tuple[Path, list[SplitFiles]] | None:
    """The folder that has the dataset's files, and the splits in it: `data_dir` (the folder itself or its parent)
    first, then `$MARKOV_COT_DATA`."""
    folders = []
    if data_dir:
        given = as_path(data_dir)
        if is_file(given):
            raise UserError(f"--data-dir {data_dir}: is a file, not a folder; name the folder that holds it")
        folders += [*(given / name for name in bench.folders), given]
    if environment := os.environ.get(ENVIRONMENT):
        folders += [as_path(environment) / name for name in bench.folders]
    return next((found for folder in folders if (found := bench.find(folder, subsets))), None)


def where_looked(bench: Dataset, data_dir: str | None) -> str:
    """The two local places, and why each had nothing."""
    given = f"--data-dir ({_state(as_path(data_dir))})" if data_dir else "--data-dir (not given)"
    environment = os.environ.get(ENVIRONMENT)
    state = _state(as_path(environment) / bench.folder) if environment else f"{ENVIRONMENT} is not set"
    return f"{given}, ${ENVIRONMENT}/{bench.folder} ({state})"


def nearest(word: str, among: Iterable[str]) -> str:
    """ "; did you mean X?" for the closest names, and otherwise "; there are ..."."""
    names = list(among)
    close = difflib.get_close_matches(word, names, n=3, cutoff=0.5)
    return f"; did you mean {' or '.join(close)}?" if close else f"; there are {', '.join(names)}"


def _state(folder: Path) -> str:
    return f"{folder} holds no such files" if is_dir(folder) else f"{folder} does not exist"
