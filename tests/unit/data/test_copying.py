"""How much of a CoT is copied."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from markov_cot.data.copying import copied
from markov_cot.data.problem import Problem

PROBLEM = Problem("p", "Who built the old tower?", "Ann", "text", passage="The old tower was built by Ann in 1889.")


@pytest.mark.parametrize(
    ("cot", "share"),
    [
        ("the old TOWER, was built", 1.0),  # both of its 4-grams, in any case and whatever stands between words
        ("It says the old tower was new", 1 / 4),  # the/old/tower/was, of four
        ("who built the old tower and why", 2 / 4),  # from the question
        ("tower who built the", 0.0),  # runs over the end of the passage into the question
        ("old tower was", 0.0),  # too short for a 4-gram
        ("", 0.0),
        ("by Ann in 1889. by Ann in 1889.", 2 / 5),  # twice copied counts twice
    ],
)
def test_by_hand(cot: str, share: float) -> None:
    assert copied(cot, PROBLEM) == share


@given(st.text(max_size=60))
def test_it_is_a_share_and_a_copy_is_all_copied(text: str) -> None:
    problem = Problem("p", text, "1", "numeric")
    assert copied(text, problem) in (0.0, 1.0)
    assert 0.0 <= copied(f"a b c d {text}", problem) <= 1.0
