"""Comparing two sides: verdicts, Holm over tasks, and what is refused or noted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from markov_cot.analysis.forgetting import Comparison, Forgetting, Margins, compare_sides
from markov_cot.analysis.item_scores import ItemScores
from markov_cot.analysis.score_files import Side, TaskScores
from markov_cot.analysis.score_tables import Reported
from markov_cot.evaluation.statistics import holm
from markov_cot.utils.errors import UserError


def scored(values: list[float], metric: str = "acc,none", **fields: Any) -> TaskScores:
    """A task's items, named by their positions."""
    items = {str(i): value for i, value in enumerate(values)}
    return TaskScores(ItemScores({metric: items}, {i: f"question {i}" for i in items}), **fields)


def side(**tasks: TaskScores) -> Side:
    return Side(Path("side"), [], tasks)


def moved(n: int, right: int, fixed: int, broken: int) -> tuple[list[float], list[float]]:
    """Scores before, with so many right, and after."""
    before = [1.0] * right + [0.0] * (n - right)
    after = [0.0] * broken + [1.0] * (right - broken + fixed) + [0.0] * (n - right - fixed)
    return before, after


def compared(n: int, right: int, fixed: int, broken: int, margin: float = 2.0) -> Comparison:
    before, after = moved(n, right, fixed, broken)
    return compare_sides(side(t=scored(before)), side(t=scored(after)), Margins(margin)).tasks["t"].primary


@pytest.mark.parametrize(
    ("case", "verdict"),
    [
        ((1000, 500, 0, 0), "kept"),
        ((30, 15, 0, 0), "undecided"),
        ((30, 15, 0, 4), "undecided"),
        ((1000, 500, 0, 100), "lost"),
        ((1319, 442, 12, 18), "kept"),
        ((1319, 442, 65, 115), "lost"),
        ((1319, 442, 115, 65), "kept"),
        ((10000, 5000, 10, 60), "kept"),  # a loss of half a point for sure, which the margin allows
        ((30, 25, 0, 20), "lost"),
        ((185, 90, 0, 0), "undecided"),
        ((189, 90, 0, 0), "kept"),  # 1.96^2 / (n + 1.96^2) is below 2 points from here on
    ],
)
def test_verdicts(case: tuple[int, int, int, int], verdict: str) -> None:
    assert compared(*case).verdict == verdict


def test_the_margin_decides_between_kept_and_lost() -> None:
    assert compared(10000, 5000, 10, 60, margin=0.4).verdict == "lost"
    assert compared(10000, 5000, 10, 60, margin=0.8).verdict == "kept"
    assert compared(1000, 500, 60, 0, margin=0.0).verdict == "kept", "better for sure"
    assert compared(1000, 500, 0, 0, margin=0.0).verdict == "undecided"


def test_of_losses_lower_is_better() -> None:
    metric, before = "nats_per_token,none", [3.0 + i / 100 for i in range(50)]
    for change, verdict in ((0.2, "lost"), (-0.2, "kept"), (0.01, "kept")):
        after = [value + change + (-1) ** i * 0.05 for i, value in enumerate(before)]
        found = compare_sides(side(t=scored(before, metric)), side(t=scored(after, metric)))
        assert found.verdict == verdict and not found.tasks["t"].primary.higher_is_better
    named = {"higher_is_better": {"oddity": False}}
    found = compare_sides(side(t=scored([1, 1], "oddity,none", **named)), side(t=scored([1, 0], "oddity,none")))
    assert not found.tasks["t"].primary.higher_is_better


def test_p_values_are_adjusted_over_tasks_and_not_over_metrics() -> None:
    cases = {"a": (400, 200, 0, 10), "b": (400, 200, 3, 12), "c": (400, 200, 9, 9)}
    before, after = {}, {}
    for name, case in cases.items():
        old, new = (scored(values) for values in moved(*case))
        assert old.items is not None and new.items is not None
        for each in (old.items, new.items):
            each.scores["acc_norm,none"] = dict(each.scores["acc,none"])
        before[name], after[name] = old, new
    found = compare_sides(side(**before), side(**after))
    assert all(task.primary.metric == "acc_norm,none" for task in found.tasks.values())
    raw = {name: task.primary.change.p_value for name, task in found.tasks.items()}
    assert {name: task.primary.p_holm for name, task in found.tasks.items()} == holm(raw)  # type: ignore[arg-type]
    assert all(task.metrics["acc,none"].p_holm is None for task in found.tasks.values())
    assert found.verdict == "lost" and found.tasks["c"].verdict == "undecided"
    assert [compare_sides(side(**before), side(**after), tasks=["b"]).tasks["b"].primary.p_holm] == [raw["b"]]


def test_which_metric_decides() -> None:
    def primary(*metrics: str, wanted: tuple[str, ...] = (), own: str | None = None) -> str:
        items = ItemScores({metric: {"0": 1.0} for metric in metrics}, {"0": "q"})
        task = TaskScores(items, primary=own)
        return compare_sides(side(t=task), side(t=task), metrics=wanted).tasks["t"].primary.metric

    filters = ("exact_match,strict-match", "exact_match,flexible-extract")
    assert primary("acc,none", "acc_norm,none") == "acc_norm,none"
    assert primary(*filters) == "exact_match,flexible-extract"
    assert primary(*filters, own="exact_match,strict-match") == "exact_match,strict-match"
    assert primary(*filters, wanted=("exact_match",)) == "exact_match,strict-match"
    assert primary("x,none", "acc,none", wanted=("x,none",), own="acc,none") == "x,none"
    assert primary("x,none", "y,none") == "x,none"
    with pytest.raises(UserError, match=r"--metric z: is in none of the tasks; there are x,none"):
        primary("x,none", wanted=("z",))


def test_other_items_are_refused() -> None:
    def refused(before: Side, after: Side, **options: Any) -> str:
        with pytest.raises(UserError) as raised:
            compare_sides(before, after, **options)
        return str(raised.value)

    one, two = side(t=scored([1, 0])), side(t=scored([1, 0, 1]))
    assert "1 items are there after and not before (2)" in refused(one, two)
    assert "1 items are there before and not after (2)" in refused(two, one)
    other = scored([1, 0])
    assert other.items is not None
    other.items.contents["1"] = "something else"
    assert "1 of 2 items ask something else before than after (1)" in refused(one, side(t=other))
    assert "has u, and side has not; pass --task t" in refused(side(t=scored([1]), u=scored([1])), side(t=scored([1])))
    assert "give results of the same tasks" in refused(one, side(u=scored([1])))
    assert "--task v: is not in side" in refused(one, one, tasks=["v"])
    assert "no metric is on both sides" in refused(one, side(t=scored([1, 0], "f1,none")))


def test_notes() -> None:
    def notes(old: TaskScores, new: TaskScores) -> str:
        return "\n".join(compare_sides(side(t=old), side(t=new)).notes)

    old = scored([1, 0], settings={"dtype": "float16", "num_fewshot": 5})
    new = scored([1, 0], settings={"dtype": "float32", "num_fewshot": 5, "cut": 3})
    assert old.items is not None and new.items is not None
    old.items.prompts, new.items.prompts = {"0": "a", "1": "b"}, {"0": "a", "1": "c"}
    new.items.scores["f1,none"] = {"0": 1.0, "1": 0.0}
    found = notes(old, new)
    assert "before and after differ in dtype" in found and "1 of 2 prompts differ" in found
    assert "f1,none on one side only" in found and "no item changed" in found and "3 prompts are longer" in found
    assert "nothing to lose" in notes(scored([0.0] * 99 + [1.0]), scored([0.0] * 100))
    assert "every item scores the same" in notes(scored([2.5, 1]), scored([2.5, 1]))


def test_totals_and_flags() -> None:
    def total(score: float, **fields: Any) -> TaskScores:
        return TaskScores(None, {"acc,none": Reported(score, 5e-5, 0.05, 5e-5, 100)}, **fields)

    def found(old: TaskScores, new: TaskScores) -> Forgetting:
        return compare_sides(side(t=old), side(t=new))

    result = found(total(0.47), total(0.265))
    [change] = [task.primary.change for task in result.tasks.values()]
    assert not change.paired and change.fixed is None and change.n == 100
    assert "compared by totals" in "\n".join(result.notes)
    assert [(flag.side, flag.metric) for flag in result.flags] == [("after", "acc,none")] * 2
    assert not found(total(0.47), total(0.265, is_group=True)).flags
    mixed = found(scored([1, 0, 1, 0]), total(0.47))
    assert not mixed.tasks["t"].primary.change.paired and mixed.tasks["t"].n is None
    wrong = scored([1, 0, 1, 0], reported={"acc,none": Reported(0.75, 5e-5, None, 0.0, 4)})
    assert ["its samples give 0.5000" in flag.reason for flag in found(wrong, wrong).flags] == [True, True]
