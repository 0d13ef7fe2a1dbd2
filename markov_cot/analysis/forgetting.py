"""What training cost elsewhere: the same items before and after, and whether a task was kept or lost.

Differences are after less before, in the metric's own unit: shares in [0, 1], nats for losses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from markov_cot.analysis.changed_items import Change, unpaired
from markov_cot.analysis.paired_items import LOWER_IS_BETTER, deciding_metric, is_named, paired_change
from markov_cot.analysis.score_files import Side, TaskScores
from markov_cot.analysis.score_flags import Flag, flags_of
from markov_cot.evaluation.statistics import holm
from markov_cot.utils.errors import UserError

Verdict = Literal["kept", "lost", "undecided"]
KEPT: Verdict = "kept"
LOST: Verdict = "lost"
UNDECIDED: Verdict = "undecided"
ALPHA = 0.05
SHARES = ("acc", "acc_norm", "acc_bytes", "acc_mutual_info", "exact_match", "accuracy", "f1", "em")
"""Metrics that are shares, where there are no items to see it by."""
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Margins:
    """How much may be lost before it counts as a loss."""

    points: float = 2.0
    """Of shares, in percentage points."""
    nats: float = 0.05
    """Of everything else, in its own unit: of a token's loss, 5 % of its perplexity."""

    def of(self, *, is_share: bool) -> float:
        """Return the margin in a metric's own unit."""
        return self.points / 100 if is_share else self.nats


@dataclass(frozen=True, slots=True)
class Comparison:
    """One metric of one task."""

    metric: str
    counts: bool
    """Whether it is the metric that decides about its task."""
    is_share: bool
    higher_is_better: bool
    change: Change
    margin: float
    p_holm: float | None = None
    """Of the metrics that count; None for the others."""

    @property
    def verdict(self) -> Verdict:
        """Kept where the whole interval is above minus the margin; lost where it is not, and a loss is significant.

        A loss that is significant and within the margin is kept: the margin says how much may be lost.
        """
        change = self.change
        sign = 1 if self.higher_is_better else -1
        worst = change.low if self.higher_is_better else change.high
        if worst is not None and sign * worst > -self.margin:
            return KEPT
        p_value = self.p_holm if self.counts else change.p_value
        if worst is not None and p_value is not None and p_value < ALPHA and sign * change.difference < 0:
            return LOST
        return UNDECIDED


@dataclass(frozen=True)
class TaskComparison:
    """A task, by all metrics that both sides have."""

    metrics: Mapping[str, Comparison]
    n: int | None
    """Items on both sides; None where it is not known."""

    @property
    def primary(self) -> Comparison:
        """The metric that counts."""
        return next(each for each in self.metrics.values() if each.counts)

    @property
    def verdict(self) -> Verdict:
        """That of the metric that counts."""
        return self.primary.verdict


@dataclass(frozen=True)
class Forgetting:
    """What was found."""

    before: Side
    after: Side
    margins: Margins
    tasks: Mapping[str, TaskComparison]
    flags: Sequence[Flag]
    notes: Sequence[str]

    @property
    def verdict(self) -> Verdict:
        """Lost where any task is; kept where all are."""
        verdicts = {task.verdict for task in self.tasks.values()}
        return LOST if LOST in verdicts else KEPT if verdicts == {KEPT} else UNDECIDED


def compare_sides(
    before: Side, after: Side, margins: Margins | None = None, tasks: Sequence[str] = (), metrics: Sequence[str] = ()
) -> Forgetting:
    """Compare two sides, item by item where both have items.

    `tasks` are those to compare, by default all; `metrics` those that count, by name or key, by default one a task.
    Raises `UserError` where a task, or an item, is on one side only, where items are not the same, and where no metric
    is on both sides.
    """
    margins = margins or Margins()
    names = _tasks(before, after, tasks)
    found: dict[str, TaskComparison] = {}
    notes = [*before.notes, *(note for note in after.notes if note not in before.notes)]
    if {file.sha256 for file in before.files} == {file.sha256 for file in after.files}:
        notes.append("both sides are the same files, so nothing can differ")
    for name in names:
        old, new = before.tasks[name], after.tasks[name]
        found[name] = _compare(name, old, new, margins, metrics)
        notes += _notes(name, old, new, found[name])
    if totals := [name for name, task in found.items() if not task.primary.change.paired]:
        notes.append(
            f"{_listed(totals)}: compared by totals, as if the items were others; samples of both sides "
            "(lm_eval --log_samples) would tell more"
        )
    if unused := [each for each in metrics if not any(is_named(k, [each]) for t in found.values() for k in t.metrics)]:
        raise UserError(f"--metric {unused[0]}: is in none of the tasks; there are {_all_metrics(found)}")
    flags = [
        flag
        for side, of in (("before", before), ("after", after))
        for name, task in found.items()
        for flag in flags_of(side, name, of.tasks[name], [k for k, each in task.metrics.items() if each.is_share])
    ]
    return Forgetting(before, after, margins, _with_holm(found), flags, notes)


def _tasks(before: Side, after: Side, wanted: Sequence[str]) -> list[str]:
    for name in wanted:
        for side in (before, after):
            if name not in side.tasks:
                raise UserError(f"--task {name}: is not in {side.path}; it has {', '.join(side.tasks)}")
    if wanted:
        return list(dict.fromkeys(wanted))
    shared = [name for name in before.tasks if name in after.tasks]
    for side, other in ((before, after), (after, before)):
        if only := [name for name in side.tasks if name not in other.tasks]:
            remedy = f"pass --task {shared[0]}" if shared else "give results of the same tasks"
            raise UserError(f"{side.path}: has {_listed(only)}, and {other.path} has not; {remedy}")
    return shared


def _compare(name: str, old: TaskScores, new: TaskScores, margins: Margins, wanted: Sequence[str]) -> TaskComparison:
    shared = [metric for metric in old.metrics if metric in new.metrics]
    if not shared:
        raise UserError(
            f"task {name}: no metric is on both sides ({_listed(old.metrics)} before, {_listed(new.metrics)} after); "
            "evaluate both in the same way"
        )
    counts = deciding_metric(shared, old.primary or new.primary or "", wanted)
    paired = old.items is not None and new.items is not None
    if paired:
        _check_items(name, old, new)
    compared = {}
    for metric in shared:
        change, is_share = _paired(old, new, metric) if paired else _unpaired(old, new, metric)
        named = {**new.higher_is_better, **old.higher_is_better}
        short = metric.split(",")[0]
        higher = bool(named.get(short, short not in LOWER_IS_BETTER))
        margin = margins.of(is_share=is_share)
        compared[metric] = Comparison(metric, metric == counts, is_share, higher, change, margin)
    sizes = {each.change.n for each in compared.values()}
    return TaskComparison(compared, sizes.pop() if len(sizes) == 1 else None)


def _check_items(name: str, old: TaskScores, new: TaskScores) -> None:
    assert old.items and new.items
    before, after = old.items.contents, new.items.contents
    for one, other, sides in ((before, after, "before and not after"), (after, before, "after and not before")):
        if only := [item for item in one if item not in other]:
            raise UserError(
                f"task {name}: {len(only):,} items are there {sides} ({_listed(only)}); evaluate both on the same items"
            )
    if changed := [item for item in before if before[item] != after[item]]:
        raise UserError(
            f"task {name}: {len(changed):,} of {len(before):,} items ask something else before than after "
            f"({_listed(changed)}); evaluate both on the same data"
        )


def _paired(old: TaskScores, new: TaskScores, metric: str) -> tuple[Change, bool]:
    assert old.items and new.items
    before, after = old.items.scores[metric], new.items.scores[metric]
    groups = [old.items.groups.get(item, item) for item in before]
    return paired_change(metric, [(value, after[item]) for item, value in before.items()], groups)


def _unpaired(old: TaskScores, new: TaskScores, metric: str) -> tuple[Change, bool]:
    """From totals; a side that has items counts by its own totals, or those of its items."""
    before, after = old.total(metric), new.total(metric)
    is_share = metric.split(",")[0] in SHARES and 0 <= before.score <= 1 and 0 <= after.score <= 1
    return unpaired(before, after, is_share=is_share), is_share


def _with_holm(tasks: Mapping[str, TaskComparison]) -> dict[str, TaskComparison]:
    """Adjust the p-values of the metrics that count for how many tasks there are."""
    known = {name: p for name, task in tasks.items() if (p := task.primary.change.p_value) is not None}
    adjusted = holm(known)
    return {
        name: replace(
            task,
            metrics={
                key: replace(each, p_holm=adjusted.get(name)) if each.counts else each
                for key, each in task.metrics.items()
            },
        )
        for name, task in tasks.items()
    }


def _notes(name: str, old: TaskScores, new: TaskScores, found: TaskComparison) -> list[str]:
    notes = []
    if differ := [key for key in old.settings if key in new.settings and old.settings[key] != new.settings[key]]:
        notes.append(f"{name}: before and after differ in {_listed(differ)}, which may be what the difference is of")
    if cut := new.settings.get("cut"):
        notes.append(f"{name}: {cut:,} prompts are longer than the model's context and lost their beginning")
    if old.items and new.items:
        before, after = old.items.prompts, new.items.prompts
        if others := sum(before[item] != after[item] for item in before if item in after):
            notes.append(f"{name}: {others:,} of {len(before):,} prompts differ (template, shots or their order)")
    only = sorted(set(old.metrics) ^ set(new.metrics))
    if only:
        notes.append(f"{name}: {_listed(only)} on one side only, not compared")
    change = found.primary.change
    if change.fixed is None and change.low == change.high == 0:
        notes.append(f"{name}: every item scores the same on both sides")
    if change.fixed == change.broken == 0:
        notes.append(f"{name}: no item changed; the interval is what {change.n:,} items without a change leave open")
    if found.primary.is_share and found.primary.higher_is_better and change.before < found.primary.margin:
        notes.append(f"{name}: {change.before:.1%} before is less than the margin, so there was nothing to lose")
    return notes


def _all_metrics(found: Mapping[str, TaskComparison]) -> str:
    return ", ".join(dict.fromkeys(key for task in found.values() for key in task.metrics))


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
