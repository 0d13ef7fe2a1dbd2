"""Comparisons evaluated in both orders, by hand and on judges' published verdicts."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from markov_cot.config.schema import Data
from markov_cot.data.comparison import Turn, comparison, swapped
from markov_cot.data.registry import load
from markov_cot.data.splits import Splits
from markov_cot.evaluation.preference import ECE, LOG_LOSS, MAJORITY, Labels, OtherOrder, labels_of
from markov_cot.evaluation.records import Item, Likelihood, Record, Sample
from markov_cot.evaluation.report import TaskReport, as_harness
from markov_cot.evaluation.results import TaskMetrics, compare, outcome
from markov_cot.evaluation.sample_rows import sample_rows
from markov_cot.grading.extractors import get_extractor

FOLDER = Path(os.environ.get("MARKOV_COT_DATA", ""), "preference")
needs_data = pytest.mark.skipif(not FOLDER.is_dir(), reason="MARKOV_COT_DATA names no folder with preference/")
LETTER = [get_extractor("choice", "word-boundary")]
UNIFORM = (-5.0, -5.0, -5.0)
TRAIN = Labels({"A": 0.5, "B": 0.3, "C": 0.2}, 10, "train")


def item(gold: str, index: int = 0, *, has_tie: bool = True) -> Item:
    turns = [Turn(f"Question {index}?", "One.", "Two.")]
    return Item(index, comparison(str(index), turns, gold, has_tie=has_tie))


def record(*answers: str, index: int = 0, letters: Sequence[float] = UNIFORM) -> Record:
    marks = tuple(Likelihood(value, False) for value in letters)
    return Record(index, 2, -1.0, tuple(Sample("thinking", each, -1.0, 0.0, marks, marks) for each in answers))


def judged(
    golds: str, first: Sequence[str], second: Sequence[str], labels: Labels = TRAIN, **options: Any
) -> TaskMetrics:
    """The outcome of a judge's answers in both orders, an answer a comparison."""
    items = [item(gold, index, **options) for index, gold in enumerate(golds)]
    letters = UNIFORM[: len(items[0].problem.choices)]
    records = [record(answer, index=i, letters=letters) for i, answer in enumerate(first)]
    mirrored = [Item(100 + each.index, swapped(each.problem)) for each in items]
    other = OtherOrder(mirrored, [record(a, index=100 + i, letters=letters) for i, a in enumerate(second)], labels)
    return outcome(items, records, LETTER, "mean", other)


def mean(found: TaskMetrics, key: str) -> float | None:
    return found.measures[key].mean


def test_verdicts_in_both_orders_by_hand() -> None:
    # Right twice; right at first only, where the second verdict is of the same place; a tie twice; no verdict twice.
    found = judged("AACB", "AAC?", "BAC?")
    assert mean(found, "exact_match,word-boundary") == 0.75
    assert mean(found, "exact_match_swapped,word-boundary") == 0.5
    assert mean(found, "exact_match_both,word-boundary") == 0.5
    assert mean(found, "position_consistency,word-boundary") == 0.5
    assert found.scores["position_consistency,word-boundary"] == [1.0, 0.0, 1.0, 0.0]
    assert mean(found, MAJORITY) == 0.5
    # A: 2 * 2 / (2 + 2), B: 0, C: 1.
    assert mean(found, "macro_f1,word-boundary") == pytest.approx(2 / 3)
    constants = found.constants
    assert constants and constants.above_majority.difference == 0.25 and constants.majority == "A"
    assert constants.uniform_log_loss == pytest.approx(1.0986, abs=5e-5) == mean(found, LOG_LOSS)
    assert constants.shares_log_loss == pytest.approx(-math.log(0.5 * 0.5 * 0.2 * 0.3) / 4)


def test_a_judge_of_the_place_is_never_consistent() -> None:
    found = judged("ABAB", "AAAA", "AAAA")
    assert mean(found, "exact_match,word-boundary") == mean(found, "exact_match_swapped,word-boundary") == 0.5
    assert mean(found, "exact_match_both,word-boundary") == mean(found, "position_consistency,word-boundary") == 0.0
    assert found.constants and found.constants.above_majority.difference == 0.0


def test_without_a_tie_two_choices_are_uniform_at_ln_2() -> None:
    found = judged("AB", "AB", "BA", Labels({"A": 0.5, "B": 0.5}, 2, "test"), has_tie=False)
    assert found.constants and found.constants.uniform_log_loss == pytest.approx(math.log(2)) == mean(found, LOG_LOSS)


def test_probabilities_of_the_letters() -> None:
    items = [item("A"), item("B", 1)]
    # 0.8 on A, right; 0.5 on A, wrong, 0.4 on B. Scaled from what the letters have of all tokens.
    chances = [(0.4, 0.05, 0.05), (0.05, 0.04, 0.01)]
    records = [record("A", index=i, letters=list(map(math.log, each))) for i, each in enumerate(chances)]
    other = OtherOrder([Item(9, swapped(each.problem)) for each in items], records, TRAIN)
    found = outcome(items, records, LETTER, "mean", other)
    assert mean(found, LOG_LOSS) == pytest.approx(-(math.log(0.8) + math.log(0.4)) / 2)
    assert mean(found, ECE) == pytest.approx((0.2 + 0.5) / 2)
    row = next(r for r in sample_rows(items, records, LETTER, found.scores, other) if r["filter"] == "none")
    assert row["probabilities"] == [pytest.approx([0.8, 0.1, 0.1])] and row["log_loss"] == pytest.approx(
        0.2231, abs=1e-4
    )


def test_nan_is_no_number() -> None:
    items = [item("A"), item("B", 1)]
    records = [record("A", letters=(math.nan, 0.0, 0.0)), record("A", index=1)]
    other = OtherOrder([Item(9, swapped(each.problem)) for each in items], records, TRAIN)
    found = outcome(items, records, LETTER, "mean", other)
    for key in (LOG_LOSS, ECE):
        assert (found.measures[key].mean, found.measures[key].nan) == (None, 1)
    assert json.dumps(list(sample_rows(items, records, LETTER, found.scores, other)), allow_nan=False)


def test_several_samples_are_paired_by_number() -> None:
    items = [item("A")]
    mirrored = [Item(9, swapped(items[0].problem))]
    other = OtherOrder(mirrored, [record("B", "B", "A", "B", index=9)], TRAIN)
    found = outcome(items, [record("A", "A", "B", "B")], LETTER, "mean", other)
    assert mean(found, "position_consistency,word-boundary") == 0.75
    assert mean(found, "exact_match_both,word-boundary") == 0.5
    assert mean(found, "macro_f1,word-boundary") == pytest.approx((2 * 2 / (4 + 2) + 0) / 2)


def test_what_is_compared_and_reported() -> None:
    worse, better = judged("AABB", "AAAA", "AAAA"), judged("AABB", "AABB", "BBAA")
    paired = compare(worse, better)
    assert paired["position_consistency,word-boundary"].difference == 1.0
    assert MAJORITY not in paired, "it is the same for both"
    task = TaskReport("preference", better, {}, original=9, too_long=0, broken=0, source="here")
    assert task.notes()[1:] == [
        "Accuracy less that of always answering A, the commonest of 10 labels of train (50.0%): "
        "+0.500 [+0.000, +1.000], p = 0.5.",
        "Log loss of uniform probabilities: 1.0986; of those labels' shares: 0.9486. ECE is over 10 equal bins.",
    ]
    document = as_harness([task], {}, 0.0)
    own = document["markov_cot"]["preference"]["constants"]
    assert (own["majority"], own["label_shares"], own["labels"], own["counted_in"]) == ("A", TRAIN.shares, 10, "train")
    assert document["results"]["preference"]["position_consistency,word-boundary"] == 1.0
    assert json.dumps(document, allow_nan=False)


def test_labels_are_those_of_training_where_there_are_any() -> None:
    problems = [item(gold, i).problem for i, gold in enumerate("BBAC")]
    assert labels_of(Splits("p", problems, [], problems[2:], "x"), "test") == Labels(
        {"A": 0.25, "B": 0.5, "C": 0.25}, 4, "train"
    )
    assert labels_of(Splits("p", [], [], problems[2:], "x"), "test").split == "test"
    assert Labels({"A": 0.4, "B": 0.4, "C": 0.2}, 5, "train").majority == "A", "the first of equals"


def verdicts(name: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads((FOLDER / name).read_text(encoding="utf-8"))
    return rows


@needs_data
def test_pandalms_published_figures() -> None:
    splits = load(Data(dataset="preference", subset="pandalm", data_dir=str(FOLDER)))
    by_name = {problem.id: problem for problem in (*splits.train, *splits.validation, *splits.test)}
    stored = verdicts("pandalm_pandalm-7b-testset-v1.json")
    items = [Item(row["idx"], by_name[f"pandalm-{row['idx']}"]) for row in stored]
    # There are no verdicts in the other order; the metrics of one order do not look at it.
    records = [record("CAB"[int(row["pandalm_result"])], index=row["idx"]) for row in stored]
    other = OtherOrder([Item(10_000 + each.index, swapped(each.problem)) for each in items], records, TRAIN)
    found = outcome(items, records, LETTER, "mean", other)
    assert found.measures["exact_match,word-boundary"].n == 999
    assert mean(found, "exact_match,word-boundary") == pytest.approx(0.6677, abs=5e-5)
    assert mean(found, "macro_f1,word-boundary") == pytest.approx(0.5743, abs=5e-5)
    # Always the second, the commonest answer, is right in 472 of them.
    always_b = OtherOrder(other.items, records, Labels({"A": 0.42, "B": 0.47, "C": 0.11}, 999, "all"))
    of_majority = outcome(items, records, LETTER, "mean", always_b).measures[MAJORITY]
    assert of_majority.mean == pytest.approx(472 / 999)


@needs_data
def test_llmbars_published_figures_of_gpt_4() -> None:
    splits = load(Data(dataset="preference", subset="llmbar", data_dir=str(FOLDER)))
    by_text = {problem.passage: problem for problem in splits.test if problem.subject == "Natural"}
    stored = verdicts("llmbar_natural_gpt4_vanilla_result.json")
    problems = [
        comparison("", [Turn(*(row[name].strip() for name in ("input", "output_1", "output_2")))], "A")
        for row in stored
    ]
    items = [Item(i, by_text[problem.passage]) for i, problem in enumerate(problems)]

    def answer(row: dict[str, Any], order: str) -> str:
        """The place the judge named: "Output (a)" is the one shown first."""
        return str(row["results"][0][f"swap = {order}"]["completion"][0])[-2].upper()

    found = outcome(
        items,
        [record(answer(row, "False"), index=i, letters=UNIFORM[:2]) for i, row in enumerate(stored)],
        LETTER,
        "mean",
        OtherOrder(
            [Item(1000 + each.index, swapped(each.problem)) for each in items],
            [record(answer(row, "True"), index=1000 + i, letters=UNIFORM[:2]) for i, row in enumerate(stored)],
            labels_of(splits, "test"),
        ),
    )
    published = verdicts("llmbar_natural_gpt4_vanilla_statistics.json")
    for key, name, share in (
        ("exact_match", "correct_False", 0.95),
        ("exact_match_swapped", "correct_True", 0.96),
        ("exact_match_both", "correct_both", 0.93),
        ("position_consistency", "equal", 0.95),
    ):
        assert mean(found, f"{key},word-boundary") == share
        assert published[name].endswith(f"= {share:.1%}")  # type: ignore[call-overload]
