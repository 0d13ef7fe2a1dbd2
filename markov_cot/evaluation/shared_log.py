"""The records of an evaluation that several processes share: the first keeps the file, all know what is in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from markov_cot.distributed.process_group import Processes
from markov_cot.evaluation.record_log import RecordLog
from markov_cot.evaluation.records import from_json, to_json
from markov_cot.utils.errors import UserError


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


def _check_same(settings: Mapping[str, Any], processes: Processes) -> None:
    first, *others = processes.collect(dict(settings))
    for rank, other in enumerate(others, 1):
        if keys := sorted(key for key in first.keys() | other.keys() if first.get(key) != other.get(key)):
            raise UserError(
                f"eval: process {rank} would evaluate something else than the first one ({', '.join(keys)} differ); "
                "give all machines the same checkpoint, base and data"
            )
