from __future__ import annotations

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from markov_cot.data.problem import Problem
from markov_cot.tracking.metrics import answers_first, compression, distinct, longest_run, repetition

tokens = st.lists(st.integers(0, 5), max_size=40)


def test_longest_run_by_hand() -> None:
    assert longest_run([1, 2, 3, 4]) == 1 / 4
    assert longest_run([1, 2, 2, 2, 3, 2, 2, 4]) == 3 / 8  # the run of three 2s
    assert longest_run([7] * 5) == 1
    assert longest_run([]) == 0


def test_distinct_by_hand() -> None:
    assert distinct([1, 2, 3, 4]) == 1  # 12 23 34
    assert distinct([1, 2, 1, 2, 1]) == 2 / 4  # 12 21 12 21
    assert distinct([4] * 11) == 1 / 10
    assert distinct([1, 1, 2], n=1) == 2 / 3
    assert distinct([1]) == distinct([]) == 1


@given(tokens)
def test_distinct_and_repetition_share_what_there_is(cot: list[int]) -> None:
    assert distinct(cot, n=4) == pytest.approx(1 - repetition(cot, n=4))


@given(tokens)
def test_runs_and_distinct_are_shares(cot: list[int]) -> None:
    assert 0 <= longest_run(cot) <= 1 and 0 < distinct(cot) <= 1


def test_compression_by_hand() -> None:
    assert compression("") == 0
    assert compression("4" * 200) == 200 / len(zlib.compress(b"4" * 200)) > 10
    # 19 bytes without a repeat stay as they are; zlib adds 2 of header, 2 of block and 4 of checksum or thereabouts.
    assert 0.6 < compression("the quick brown fox") < 0.8
    assert compression("é" * 50) == 100 / len(zlib.compress("é".encode() * 50))  # bytes, not characters


@given(st.text(max_size=60) | st.just("\ud800"))
def test_compression_takes_any_text(text: str) -> None:
    assert compression(text) >= 0


@pytest.mark.parametrize(
    ("cot", "answer", "first"),
    [
        ("47. 12+35=47", "47", True),
        ("So the answer is 47.", "47", True),
        ("Answer: 47", "47", True),
        ("#### 47", "47", True),
        ("12+35=47", "47", False),  # digits before it: the sum is worked
        ("There are twelve and thirty-five, so in all 47", "47", False),  # eight words before it
        ("one two three four five 47", "47", True),
        ("one two three four five six 47", "47", False),
        ("It is 470, so 47", "47", False),
        ("nothing here", "47", False),
        ("", "47", False),
    ],
)
def test_numbers_stated_before_any_reasoning(cot: str, answer: str, first: bool) -> None:
    assert answers_first(cot, Problem("", "What is 12+35?", answer, "numeric")) is first


def test_a_number_of_the_question_says_nothing() -> None:
    assert not answers_first("5 apples", Problem("", "5 apples and 0 pears?", "5", "numeric"))
    assert not answers_first("5 apples", Problem("", "How many?", "5", "numeric", passage="Ann has 5 apples."))
    assert answers_first("B, since", Problem("", "Is it B or C?", "B", "choice", ("x", "y", "z")))


@pytest.mark.parametrize(
    ("cot", "first"),
    [("B. because it rains", True), ("The right answer is (B)", True), ("Rain is wet, and wet things shine: B", False)],
)
def test_letters_stated_before_any_reasoning(cot: str, first: bool) -> None:
    assert answers_first(cot, Problem("", "Why?", "B", "choice", ("x", "y"))) is first


def test_the_article_is_no_answer() -> None:
    problem = Problem("", "Why?", "A", "choice", ("x", "y"))
    assert not answers_first("A cat is an animal", problem)
    assert answers_first("A. Since cats purr", problem)
    assert answers_first("A", problem)
