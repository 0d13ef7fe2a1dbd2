"""The records of an evaluation that several processes share: the first keeps the file, all know what is in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from markov_cot.distributed.process_group import Processes
from markov_cot.evaluation.item_log import fingerprint, read_log, read_settings
from markov_cot.evaluation.record_log import RECORDS, RecordLog
from markov_cot.evaluation.records import Record, from_json, to_json
from markov_cot.utils.errors import UserError

NOT_OF_COTS = ("items", "readers", "reader_prompt", "reduction", "combine", "answers")
"""What an item's CoT does not depend on, of an evaluation's settings: which other items there are, and who reads."""


@contextmanager
def shared_log(folder: Path, settings: Mapping[str, Any], processes: Processes) -> Iterator[RecordLog]:
    """Open the log of `settings` in the first process, and one in memory with the same records in the others.

    Raises `UserError` where the processes are about to evaluate different things, and as `RecordLog` does.
    """
    _check_same(settings, processes)
    with processes.together():
        log = RecordLog(folder if processes.is_first else None, settings)
    with log:
        if processes.count > 1:
            known = map(from_json, processes.agree([to_json(record) for record in log.done.values()]))
            log.done = {record.index: record for record in known}
        yield log


def stored_cots(folder: Path, settings: Mapping[str, Any], processes: Processes) -> dict[int, list[list[int]]]:
    """Return the CoTs, by item, that earlier evaluations of the same data wrote under the same settings.

    Other items may have been evaluated with them, and others may have read them.
    """
    found: dict[str, list[list[int]]] = {}
    with processes.together():
        if processes.is_first:
            found = {str(i): [list(s.cot_ids) for s in r.samples] for i, r in _written(folder, settings).items()}
    return {int(index): cots for index, cots in processes.agree(found).items()}


def _written(folder: Path, settings: Mapping[str, Any]) -> dict[int, Record]:
    records: dict[int, Record] = {}
    for path in sorted(folder.glob("*.jsonl")):
        known = read_settings(path)
        if known and of_writing(known) == of_writing(settings):
            records |= read_log(path, fingerprint(known), RECORDS)[0]
    return records


def of_writing(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of an evaluation's settings that its CoTs depend on."""
    return {key: value for key, value in settings.items() if key not in NOT_OF_COTS}


def _check_same(settings: Mapping[str, Any], processes: Processes) -> None:
    first, *others = processes.collect(dict(settings))
    for rank, other in enumerate(others, 1):
        if keys := sorted(key for key in first.keys() | other.keys() if first.get(key) != other.get(key)):
            raise UserError(
                f"eval: process {rank} would evaluate something else than the first one ({', '.join(keys)} differ); "
                "give all machines the same checkpoint, base and data"
            )
