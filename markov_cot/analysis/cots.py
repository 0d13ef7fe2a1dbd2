"""The CoTs that a model writes of a task's items: those that an evaluation has kept, else new ones, kept in turn."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from markov_cot.analysis.readings import COTS, ItemCot
from markov_cot.config.schema import Config
from markov_cot.distributed.process_group import ALONE
from markov_cot.evaluation.evaluate import Request, cache_settings, eval_folder, writing_of
from markov_cot.evaluation.item_log import ItemLog
from markov_cot.evaluation.loaded_model import LoadedModel, ModelSource
from markov_cot.evaluation.records import Item
from markov_cot.evaluation.runner import Runner
from markov_cot.evaluation.shared_log import of_writing, stored_cots
from markov_cot.evaluation.task import EvalTask

WRITTEN_AT_ONCE, READ_AT_ONCE = 16, 4
"""Items. Of each, a probe reads some fifty CoTs."""

Cot = Sequence[int]
T = TypeVar("T")


def per_token(request: Request) -> Request:
    """Return the request with log-probs per token of the answer, whatever the reward's were."""
    overrides = request.overrides
    return replace(request, overrides=replace(overrides, settings={**overrides.settings, "reward.reduction": "mean"}))


def analysis_folder(source: ModelSource, request: Request, config: Config) -> Path:
    """Return where analyses of a model are kept: beside its evaluations."""
    return eval_folder(source.ref, request.overrides, config.model.name).parent / "analysis"


def parts_of(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Yield the items in parts that are computed together; rounding depends on which these are."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


class CotWriter:
    """One model, under its own settings, on the items of a task; one CoT an item."""

    def __init__(
        self, work: EvalTask, subject: LoadedModel, source: ModelSource, request: Request, cache: Path
    ) -> None:
        """Evaluations are looked for where `eval` leaves them; new CoTs are kept in `cache`."""
        config = source.config(work.task)
        self._items, self._cache = work.items, cache
        self.writing = writing_of(work.task, config, request.seed, source.writer)
        self.settings: dict[str, Any] = cache_settings(work, subject, source, self.writing, config)
        """All that CoTs and what is read of them depend on."""
        evaluations = eval_folder(source.ref, request.overrides, config.model.name)
        written = stored_cots(evaluations / "cache", self.settings, ALONE)
        self._runner = Runner(subject.policy, subject.readers(config), self.writing, written=written)

    def cots(self, advance: Callable[[int], None]) -> dict[int, Cot]:
        """Return the CoT of every item. Raises `UserError`, as where it cannot be kept."""
        self._runner.check(self._items)
        with ItemLog(self._cache, {**of_writing(self.settings), "of": "cots"}, COTS) as log:
            for part in parts_of(self._items, WRITTEN_AT_ONCE):
                if any(item.index not in log.done for item in part):
                    log.append(row for row in self._written(part) if row.index not in log.done)
                advance(len(part))
            return {item.index: log.done[item.index].cot for item in self._items}

    def _written(self, items: Sequence[Item]) -> Iterator[ItemCot]:
        for item, cot in zip(items, self._runner.write_cots(items), strict=True):
            yield ItemCot(item.index, tuple(cot))
