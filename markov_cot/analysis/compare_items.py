"""Paired tests of runs on the items that their evaluation records have in common, by what is asked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from markov_cot.analysis.changed_items import Change
from markov_cot.analysis.compare_records import HELD_OUT
from markov_cot.analysis.compare_run import ComparedRun
from markov_cot.analysis.item_scores import ItemScores
from markov_cot.analysis.paired_items import deciding_metric, paired_change
from markov_cot.evaluation.statistics import holm


@dataclass(frozen=True, slots=True)
class Pair:
    """Two runs on one task."""

    first: str
    second: str
    task: str
    metric: str
    """The one that decides about the task, `name,filter`."""
    checkpoints: tuple[str | None, str | None]
    """What was evaluated of each."""
    items: tuple[int, int]
    """How many items each has; `change.n` are common."""
    is_share: bool
    change: Change
    """The second less the first."""
    p_holm: float | None = None
    """Adjusted for all pairs and tasks there are."""


@dataclass(frozen=True, slots=True)
class Unpaired:
    """Two runs that cannot be paired on a task, or on any."""

    first: str
    second: str
    why: str


def pairs_of(runs: Sequence[ComparedRun]) -> tuple[tuple[Pair, ...], tuple[Unpaired, ...]]:
    """Return every two runs that have common items, on every task, and those with records that have none."""
    found: list[Pair] = []
    without: list[Unpaired] = []
    for first, second in combinations([run for run in runs if run.records], 2):
        for each in _on_tasks(first, second):
            if isinstance(each, Pair):
                found.append(each)
            else:
                without.append(each)
    known = {str(i): pair.change.p_value for i, pair in enumerate(found)}
    adjusted = holm({place: p for place, p in known.items() if p is not None})
    return tuple(replace(pair, p_holm=adjusted.get(str(i))) for i, pair in enumerate(found)), tuple(without)


def common_items(first: ItemScores, second: ItemScores) -> list[tuple[str, str]]:
    """Return the names that common items have in the first and in the second, in the order of the first.

    Items are the same where they ask the same and have the same answer, wherever they stand. One that is there k times
    is paired as often as both have it.
    """
    other = dict(_by_content(second))
    return [(item, other[content]) for content, item in _by_content(first) if content in other]


def _on_tasks(first: ComparedRun, second: ComparedRun) -> Iterator[Pair | Unpaired]:
    for task in dict.fromkeys([*first.records, *second.records]):
        if lacking := [run.name for run in (first, second) if task not in run.records]:
            yield Unpaired(first.name, second.name, f"{task}: {lacking[0]} has no records of it")
        else:
            yield _paired(first, second, task)


def _paired(first: ComparedRun, second: ComparedRun, task: str) -> Pair | Unpaired:
    records = first.records[task], second.records[task]
    sides = [each.scores.items for each in records]
    assert sides[0] and sides[1], "records are read from samples"
    own, other = sides[0], sides[1]
    sizes = len(own.contents), len(other.contents)
    common = common_items(own, other)
    if not common:
        why = f"{task}: none of their {sizes[0]:,} and {sizes[1]:,} items are the same"
        remedy = "" if task == HELD_OUT else "; evaluate both with the same --limit and --seed"
        return Unpaired(first.name, second.name, f"{why}{remedy}")
    metrics = [metric for metric in own.scores if metric in other.scores]
    if not metrics:
        return Unpaired(first.name, second.name, f"{task}: no metric in common; evaluate both in the same way")
    metric = deciding_metric(metrics, records[0].scores.primary or records[1].scores.primary or "")
    pairs = [(own.scores[metric][a], other.scores[metric][b]) for a, b in common]
    change, is_share = paired_change(metric, pairs, [own.groups.get(a, a) for a, _ in common])
    checkpoints = records[0].checkpoint, records[1].checkpoint
    return Pair(first.name, second.name, task, metric, checkpoints, sizes, is_share, change)


def _by_content(items: ItemScores) -> Iterator[tuple[tuple[str, int], str]]:
    """What each item asks, with how often that was asked before, and its name."""
    seen: Counter[str] = Counter()
    for item, content in items.contents.items():
        yield (content, seen[content]), item
        seen[content] += 1
