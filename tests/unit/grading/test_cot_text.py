"""Measures of a CoT's text, by hand."""

from __future__ import annotations

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from markov_cot.grading.cot_text import (
    compression,
    distinct,
    find_answer,
    longest_run,
    refuses,
    repetition,
    symbols,
    words,
)

tokens = st.lists(st.integers(0, 5), max_size=40)
texts = st.text(max_size=60) | st.just("\ud800")


def test_words_and_marks() -> None:
    assert words("So 12+35=47, fin_e \n…") == ["So", "12", "+", "35", "=", "47", ",", "fin_e", "…"]
    assert words("") == []


def test_repetition_by_hand() -> None:
    assert repetition([1, 2, 3, 4, 5]) == 0
    assert repetition([4] * 7) == 1 - 1 / 4  # four 4-grams, all the same
    assert repetition([1, 2, 1, 2, 1, 2], n=2) == 1 - 2 / 5  # 12 21 12 21 12
    assert repetition(words("a b a b a b"), n=2) == 1 - 2 / 5  # words count as ids do
    assert repetition([1, 2, 3]) == repetition([]) == 0  # too short for a 4-gram


@given(tokens)
def test_repetition_is_a_share(cot: list[int]) -> None:
    assert 0 <= repetition(cot) < 1


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


@given(texts)
def test_compression_takes_any_text(text: str) -> None:
    assert compression(text) >= 0


def test_symbols_by_hand() -> None:
    assert symbols("") == symbols("So 12 + 35 = 47, \\boxed{47} – “fin” (ok)?!") == 0
    assert symbols("ab@#") == 2 / 4
    assert symbols("□□□7") == symbols("___7") == 3 / 4
    assert symbols("\x00a") == 1 / 2  # no control code is plain text
    assert symbols("数学は楽しい") == 0  # letters of any language are letters


@given(texts)
def test_symbols_are_a_share_and_do_not_depend_on_order(text: str) -> None:
    assert 0 <= symbols(text) <= 1
    assert symbols(text[::-1]) == symbols(text)


@pytest.mark.parametrize(
    ("text", "refused"),
    [
        ("I cannot determine the answer from this.", True),
        ("There is not enough information to say.", True),
        ("I'm sorry, but I can't assist with that.", True),
        ("As an AI language model, I have no view.", True),
        ("That is against my guidelines", True),
        ("I can help: 12+35=47", False),
        ("As an aid, draw a line.", False),
        ("", False),
    ],
)
def test_refusals(text: str, refused: bool) -> None:
    assert refuses(text) is refused


@pytest.mark.parametrize(
    ("text", "accepted", "kind", "found"),
    [
        ("So 47.", ("47",), "numeric", "47"),
        ("147 and 47.5", ("47",), "numeric", None),
        ("in PARIS, then", ("Rome", "Paris"), "text", "PARIS"),
        ("because", ("B",), "choice", None),
        ("it is b", ("B",), "choice", None),
        ("(B)", ("B",), "choice", "B"),
    ],
)
def test_an_answer_stands_alone(text: str, accepted: tuple[str, ...], kind: str, found: str | None) -> None:
    match = find_answer(text, accepted, kind)  # type: ignore[arg-type]
    assert (match and match[0]) == found


@pytest.mark.parametrize("text", ["a" * 1_000_000, "\x00" * 1_000_000, "i cannot " * 100_000, "‮\x1b[31m" * 10_000])
def test_hostile_texts_are_measured(text: str) -> None:
    assert 0 <= symbols(text) <= 1 and compression(text) > 10 and not find_answer(text, ("47",), "text")
    assert refuses(text) is False
