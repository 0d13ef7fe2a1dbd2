"""The real files, where $MARKOV_COT_DATA names them: every row is read, and no question is on two sides."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from markov_cot.config.schema import Data
from markov_cot.data.benchmarks import wiki
from markov_cot.data.describe import describe
from markov_cot.data.registry import load
from markov_cot.data.splits import question_key
from markov_cot.grading.kinds import LABELS

FOLDER = os.environ.get("MARKOV_COT_DATA", "")
pytestmark = pytest.mark.skipif(not FOLDER or not Path(FOLDER).is_dir(), reason="MARKOV_COT_DATA names no folder")

ROWS = {
    ("gsm8k", None): {"train": 7473, "test": 1319},
    ("svamp", None): {"SVAMP": 1000},
    ("aqua", None): {"dev": 254, "test": 254},
    ("arc", "challenge"): {"Train": 1119, "Dev": 299},
    ("arc", "easy"): {"Dev": 570},
    ("mmlu", None): {"dev": 285, "val": 1531},
    ("mathqa", None): {"dev": 4475},
    ("hellaswag", None): {"val": 2000},
    ("squad", None): {"en": 48},
    ("xquad", "en"): {"en": 48},
    ("wiki", None): {"valid": 60, "test": 60},
    ("preference", "arena"): {},
    ("preference", "pandalm"): {"testset-v1": 999},
    ("preference", "llmbar"): {"llmbar": 419},
}
IN_ARTICLES = ("squad", "xquad", "wiki")
"""Whose rows are articles."""
# One question of MMLU's college_physics is in dev and in val.
LEFT_OUT = {("mmlu", None): 1}
TESTED = {("gsm8k", None): 1319, ("aqua", None): 254, ("arc", "challenge"): 299, ("mmlu", None): 1531}


def test_rows_found() -> None:
    found = {
        (listing.name, listing.subset): listing.splits for listing in describe(FOLDER) if listing.source != "generated"
    }
    assert found == ROWS


NOT_SPLIT = {("preference", "arena"), ("preference", "llmbar"), ("hellaswag", None)}
"""The first is not among the data; of the others there is nothing to train on."""


@pytest.mark.parametrize(
    ("name", "subset"), [case for case in ROWS if case[0] not in IN_ARTICLES and case not in NOT_SPLIT]
)
def test_every_row_is_read(name: str, subset: str | None, offline: Any) -> None:
    splits = load(Data(dataset=name, subset=subset, data_dir=FOLDER), open_hub=offline)
    sides = (splits.train, splits.validation, splits.test)
    assert all(sides) and splits.skipped == 0
    assert sum(map(len, sides)) == sum(ROWS[name, subset].values()) - LEFT_OUT.get((name, subset), 0)
    assert len(splits.test) == TESTED.get((name, subset), len(splits.test))
    keys = [set(map(question_key, side)) for side in sides]
    assert not (keys[0] & keys[1] or keys[0] & keys[2] or keys[1] & keys[2])
    for problem in (p for side in sides for p in side):
        assert problem.question and problem.answer
        if problem.kind == "choice":
            assert problem.answer in LABELS[: len(problem.choices)] and all(problem.choices)
        else:
            assert float(problem.answer) == float(problem.answer)
    ids = [p.id for side in sides for p in side]
    assert len(set(ids)) == len(ids)


def test_a_validation_split_that_is_tested_on_is_whole(offline: Any) -> None:
    splits = load(Data(dataset="hellaswag", data_dir=FOLDER), open_hub=offline)
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (0, 0, 2000)
    assert {problem.answer for problem in splits.test} == set("ABCD")
    assert splits.test[0].question == "Roof shingle removal: A man is sitting on a roof. he"
    assert splits.test[0].choices[3] == "starts pulling up roofing on a roof."


@pytest.mark.parametrize("name", ["squad", "xquad"])
def test_articles_stay_whole(name: str, offline: Any) -> None:
    splits = load(Data(dataset=name, data_dir=FOLDER), open_hub=offline)
    sides = (splits.train, splits.validation, splits.test)
    assert sum(map(len, sides)) == 1190 and splits.skipped == 0
    titles = [{problem.group for problem in side} for side in sides]
    assert sum(map(len, titles)) == 48 and not (titles[0] & titles[1] or titles[0] & titles[2] or titles[1] & titles[2])
    assert 300 < len(splits.test) < 420 and len(splits.validation) >= 80
    for problem in (p for side in sides for p in side):
        assert problem.kind == "text" and problem.answer.split() and problem.passage and problem.question
    assert len({problem.id for side in sides for problem in side}) == 1190


def test_aqua_options_lose_all_labels(offline: Any) -> None:
    splits = load(Data(dataset="aqua", data_dir=FOLDER), open_hub=offline)
    [doubled] = [problem for problem in splits.test if problem.choices == ("59", "69", "79", "89", "99")]
    assert doubled.kind == "choice"
    for problem in (*splits.train, *splits.validation, *splits.test):
        assert not any(choice.startswith(f"{letter})") for letter in LABELS for choice in problem.choices), problem


def test_mathqa_options_lose_all_labels(offline: Any) -> None:
    splits = load(Data(dataset="mathqa", data_dir=FOLDER), open_hub=offline)
    for problem in (*splits.train, *splits.validation, *splits.test):
        assert len(problem.choices) == 5
        assert not any(f"{letter} ) " in choice[:4] for letter in "abcde" for choice in problem.choices), problem


def test_wiki_windows(offline: Any) -> None:
    transformers = pytest.importorskip("transformers")
    folder = Path(FOLDER) / "tokenizers" / "gpt2"
    if not folder.is_dir():
        pytest.skip("no tokenizer")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    splits = load(Data(dataset="wiki", data_dir=FOLDER), tokenizer, open_hub=offline)
    sides = [{wiki.article_of(p) for p in side} for side in (splits.train, splits.validation, splits.test)]
    assert all(sides) and not (sides[0] & sides[1] or sides[0] & sides[2] or sides[1] & sides[2])
    for problem in splits.test[:100]:
        context, target = (len(tokenizer(text).input_ids) for text in (problem.passage, problem.answer))
        assert 185 <= context <= 203 and 85 <= target <= 103


def test_comparisons(offline: Any) -> None:
    llmbar = load(Data(dataset="preference", subset="llmbar", data_dir=FOLDER), open_hub=offline)
    assert Counter(problem.subject for problem in llmbar.test) == {
        "Natural": 100,
        "Neighbor": 134,
        "GPTInst": 92,
        "GPTOut": 47,
        "Manual": 46,
    }
    both = load(Data(dataset="preference", subset="pandalm,llmbar", swap=True, data_dir=FOLDER), open_hub=offline)
    assert both.test == llmbar.test and (len(both.train), len(both.validation)) == (1800, 99)
    for problem in (*both.train, *both.validation, *both.test):
        [(first, first_end, second, second_end)] = problem.pairs
        assert problem.passage[:first].endswith("Response A:\n") and problem.passage[second_end:] == "\n"
        assert problem.passage[first_end:second] == "\n\nResponse B:\n"
