"""The greedy splitter, against scikit-learn's on the same groups."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from markov_cot.config.schema import Data
from markov_cot.data.comparison import frequencies, prompt_group
from markov_cot.data.registry import load
from markov_cot.data.stratified import stratified_parts

FOLDER = os.environ.get("MARKOV_COT_DATA", "")
needs_data = pytest.mark.skipif(
    not Path(FOLDER, "preference").is_dir() or not FOLDER, reason="MARKOV_COT_DATA names no folder with preference/"
)
GROUPS = st.dictionaries(
    st.text(max_size=4), st.dictionaries(st.sampled_from("ABC"), st.integers(1, 9), min_size=1), min_size=1, max_size=30
)


def spread(groups: dict[str, Counter[str]], parts: dict[str, int], count: int) -> float:
    """The largest distance of a label's share in a part from its share in all."""
    total = sum(groups.values(), Counter())
    worst = 0.0
    for part in range(count):
        inside = sum((groups[name] for name, each in parts.items() if each == part), Counter())
        worst = max(worst, *(abs(inside[c] / inside.total() - total[c] / total.total()) for c in total))
    return worst


def test_by_hand() -> None:
    # The largest first, where it adds least to the chi-squared distance: 4 rows into the part of 0.6 * 8, 3 into the
    # other (9 / 3.2 < (2 * 4 * 3 + 9) / 4.8), and the last one where it adds (2n + 1) / T: 9 / 4.8 < 7 / 3.2.
    groups = {"small": {"x": 1}, "large": {"x": 4}, "middle": {"x": 3}}
    assert stratified_parts(groups, [0.6, 0.4]) == {"small": 0, "large": 0, "middle": 1}
    # Labels apart: each of the two labels' groups is spread over both parts.
    groups = {name: {name[0]: 1} for name in ("x1", "x2", "y1", "y2")}
    parts = stratified_parts(groups, [0.5, 0.5])
    assert {parts["x1"], parts["x2"]} == {0, 1} == {parts["y1"], parts["y2"]}


@given(GROUPS, st.integers(0, 3))
def test_every_group_has_a_part_and_no_part_is_empty(groups: dict[str, dict[str, int]], seed: int) -> None:
    parts = stratified_parts(groups, [0.9, 0.1], seed)
    assert list(parts) == list(groups)
    assert set(parts.values()) == ({0, 1} if len(groups) > 1 else set(parts.values()))
    backwards = dict(reversed(list(groups.items())))
    assert stratified_parts(backwards, [0.9, 0.1], seed) == parts, "the order of the rows does not matter"


def test_another_seed_gives_another_split() -> None:
    groups = {str(i): {"x": 1} for i in range(40)}
    first, second = (stratified_parts(groups, [0.5, 0.5], seed) for seed in (0, 1))
    assert first != second
    assert Counter(first.values()) == Counter(second.values()) == {0: 20, 1: 20}


@needs_data
def test_pandalm_is_split_at_least_as_evenly_as_by_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    from sklearn.model_selection import StratifiedGroupKFold

    monkeypatch.setenv("MARKOV_COT_DATA", FOLDER)
    splits = load(Data(dataset="preference", subset="pandalm"))
    problems = [*splits.train, *splits.validation, *splits.test]
    labels, names = [problem.answer for problem in problems], [problem.group for problem in problems]
    groups: dict[str, Counter[str]] = {}
    for label, name in zip(labels, names, strict=True):
        groups.setdefault(name, Counter())[label] += 1
    ours = stratified_parts(groups, [0.2] * 5)
    folds = StratifiedGroupKFold(5).split(names, labels, names)
    theirs = {names[i]: fold for fold, (_, inside) in enumerate(folds) for i in inside}
    assert spread(groups, ours, 5) <= spread(groups, theirs, 5) + 1e-9
    assert spread(groups, ours, 5) < 0.01
    sizes = Counter(ours[name] for name in names)
    assert max(sizes.values()) - min(sizes.values()) <= 2


@needs_data
def test_pandalms_prompts_are_on_one_side_each_and_its_labels_on_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MARKOV_COT_DATA", FOLDER)
    splits = load(Data(dataset="preference", subset="pandalm"))
    sides = [{problem.group for problem in side} for side in (splits.train, splits.validation, splits.test)]
    assert not (sides[0] & sides[1] or sides[0] & sides[2] or sides[1] & sides[2])
    assert sum(map(len, sides)) == 170
    for side in (splits.train, splits.validation, splits.test):
        shares = frequencies(side)
        # Of all 999: 422 first, 472 second, 105 ties.
        assert all(abs(shares[letter] - of / 999) < 0.01 for letter, of in zip("ABC", (422, 472, 105), strict=True))


@needs_data
def test_folds_by_label_alone_would_share_pandalms_prompts() -> None:
    from sklearn.model_selection import StratifiedKFold

    rows = json.loads(Path(FOLDER, "preference", "pandalm_testset-v1.json").read_text(encoding="utf-8"))
    names = [prompt_group([row["instruction"], row["input"]]) for row in rows]
    labels = [Counter(row[f"annotator{i}"] for i in (1, 2, 3)).most_common(1)[0][0] for row in rows]
    train, test = next(StratifiedKFold(5, shuffle=True, random_state=0).split(names, labels))
    tested = {names[i] for i in test}
    assert (len(tested), len(tested & {names[i] for i in train})) == (125, 122)
