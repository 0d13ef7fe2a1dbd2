"""Paired tests on the items that two runs have in common."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from markov_cot.analysis.compare_items import Pair, Unpaired, common_items, pairs_of
from markov_cot.analysis.compare_run import read_compared
from markov_cot.analysis.item_scores import ItemScores
from markov_cot.analysis.paired_shares import tango_interval
from tests.run_folders import make_run, write_records


def items(*contents: str) -> ItemScores:
    return ItemScores(contents={str(i): content for i, content in enumerate(contents)})


def pairs(folder: Path, *names: str) -> tuple[tuple[Pair, ...], tuple[Unpaired, ...]]:
    return pairs_of(read_compared(names, folder))


def test_items_are_matched_by_what_they_ask_and_copies_as_often_as_both_have_them() -> None:
    assert common_items(items("x", "y", "x", "z", "x"), items("z", "x", "x", "w")) == [
        ("0", "1"),
        ("2", "2"),
        ("3", "0"),
    ]
    assert common_items(items("x"), items("y")) == []


@given(st.lists(st.sampled_from("abc"), max_size=8), st.lists(st.sampled_from("abc"), max_size=8))
def test_as_many_are_common_as_the_multisets_share(one: list[str], other: list[str]) -> None:
    found = common_items(items(*one), items(*other))
    assert len(found) == sum(min(one.count(letter), other.count(letter)) for letter in "abc")
    assert all(one[int(a)] == other[int(b)] for a, b in found)
    assert len({a for a, _ in found}) == len({b for _, b in found}) == len(found)


def test_a_pair_by_hand(tmp_path: Path) -> None:
    """Seven items are common; two of them only a got right, five only b: p = 2 (C(7,0) + C(7,1) + C(7,2)) / 2^7."""
    write_records(make_run(tmp_path / "a"), [1, 1, 0, 0, 0, 0, 0, 1])
    write_records(make_run(tmp_path / "b", seed=1), [0, 1, 1, 1, 1, 1, 0], first=1, checkpoint="adapter_4")
    (pair,), unpaired = pairs(tmp_path, "a", "b")
    assert (pair.first, pair.second, pair.task, pair.metric) == ("a", "b", "sums", "exact_match,anchor")
    assert (pair.checkpoints, pair.items) == (("checkpoints/r/adapter_8", "checkpoints/r/adapter_4"), (8, 7))
    change = pair.change
    assert (change.n, change.fixed, change.broken) == (7, 5, 2)
    assert change.difference == pytest.approx(3 / 7)
    assert (change.low, change.high) == tango_interval(5, 2, 7)
    assert change.p_value == pytest.approx(2 * (1 + 7 + 21) / 2**7)
    assert pair.p_holm == change.p_value and pair.is_share and unpaired == ()


def test_p_values_are_adjusted_for_all_pairs(tmp_path: Path) -> None:
    """Ten items: c gets all right, a and b none: p is 2 / 2^10 for a-c and b-c, and 1 for a-b. Holm: 3 p, 3 p, 1."""
    for name, value in (("a", 0), ("b", 0), ("c", 1)):
        write_records(make_run(tmp_path / name), [value] * 10)
    found, _ = pairs(tmp_path, "a", "b", "c")
    assert [(pair.first, pair.second) for pair in found] == [("a", "b"), ("a", "c"), ("b", "c")]
    assert [pair.change.p_value for pair in found] == pytest.approx([1, 2 / 2**10, 2 / 2**10])
    assert [pair.p_holm for pair in found] == pytest.approx([1, 6 / 2**10, 6 / 2**10])


def test_the_other_way_round_is_the_same_with_the_other_sign(tmp_path: Path) -> None:
    write_records(make_run(tmp_path / "a"), [1, 0, 0, 1, 0])
    write_records(make_run(tmp_path / "b"), [1, 1, 1, 0, 1])
    (there,), _ = pairs(tmp_path, "a", "b")
    (back,), _ = pairs(tmp_path, "b", "a")
    assert there.change.difference == -back.change.difference == pytest.approx(0.4)
    assert there.change.p_value == back.change.p_value
    assert there.change.low == pytest.approx(-(back.change.high or 0))


def test_scores_that_are_not_right_or_wrong_get_students_test(tmp_path: Path) -> None:
    """Differences 0.1, 0.3, 0.2: mean 0.2, stderr 0.1 / sqrt(3), t = 3.4641 with 2 degrees, p = 0.0742."""
    write_records(make_run(tmp_path / "a"), [-1.0, -2.0, -3.0], metric="answer_logprob")
    write_records(make_run(tmp_path / "b"), [-0.9, -1.7, -2.8], metric="answer_logprob")
    (pair,), _ = pairs(tmp_path, "a", "b")
    assert pair.change.difference == pytest.approx(0.2) and not pair.is_share
    assert pair.change.p_value == pytest.approx(0.0742, abs=5e-5)


def test_every_task_that_both_have_is_compared(tmp_path: Path) -> None:
    for name in ("a", "b"):
        run = make_run(tmp_path / name)
        write_records(run, [1, 0], task="sums")
        write_records(run, [1, 0, 1], task="more")
    write_records(tmp_path / "b", [1], task="own")
    found, unpaired = pairs(tmp_path, "a", "b")
    assert {(pair.task, pair.change.n) for pair in found} == {("sums", 2), ("more", 3)}
    assert [each.why for each in unpaired] == ["own: a has no records of it"]


def test_what_cannot_be_paired_says_why(tmp_path: Path) -> None:
    write_records(make_run(tmp_path / "a"), [1, 0])
    write_records(make_run(tmp_path / "far"), [1, 0, 1], first=9)
    write_records(make_run(tmp_path / "task"), [1, 0], task="other")
    write_records(make_run(tmp_path / "metric"), [0.5, 0], metric="f1")
    make_run(tmp_path / "none")
    found, unpaired = pairs(tmp_path, "a", "far", "task", "metric", "none")
    assert found == ()
    assert [(each.second, each.why) for each in unpaired if each.first == "a"] == [
        ("far", "sums: none of their 2 and 3 items are the same; evaluate both with the same --limit and --seed"),
        ("task", "sums: task has no records of it"),
        ("task", "other: a has no records of it"),
        ("metric", "sums: no metric in common; evaluate both in the same way"),
    ]
