"""Comparisons as text, swapped, and grouped by prompt."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from markov_cot.data.comparison import (
    CHOICES,
    FIRST,
    SECOND,
    TIE,
    Turn,
    comparison,
    frequencies,
    prompt_group,
    swapped,
    with_swapped,
)
from markov_cot.data.problem import Problem

TURNS = st.lists(st.builds(Turn, st.text(max_size=9), st.text(max_size=9), st.text(max_size=9)), min_size=1, max_size=3)


def test_one_turn_as_text() -> None:
    problem = comparison("x", [Turn("Say hi.", "Hi.", "No.")], FIRST)
    assert problem.passage == "Prompt:\nSay hi.\n\nResponse A:\nHi.\n\nResponse B:\nNo.\n"
    assert (problem.kind, problem.answer, problem.choices) == ("choice", "A", CHOICES)
    assert problem.rationale == "Response A is better, so the answer is A."
    assert comparison("x", [Turn("Say hi.", "Hi.", "No.")], FIRST, has_tie=False).choices == CHOICES[:2]


def test_several_turns_are_numbered_and_each_prompt_is_shown_once() -> None:
    problem = comparison("x", [Turn("Say hi.", "Hi.", "No."), Turn("Again.", "Hi!", "")], TIE)
    assert problem.passage == (
        "Prompt, turn 1:\nSay hi.\n\nResponse A, turn 1:\nHi.\n\nResponse B, turn 1:\nNo.\n\n"
        "Prompt, turn 2:\nAgain.\n\nResponse A, turn 2:\nHi!\n\nResponse B, turn 2:\n\n"
    )
    assert problem.rationale == "Neither response is better, so the answer is C."


@given(TURNS, st.sampled_from([FIRST, SECOND, TIE]))
def test_swapping_exchanges_the_responses_and_nothing_else(turns: list[Turn], answer: str) -> None:
    problem = comparison("x", turns, answer)
    other = swapped(problem)
    expected = comparison(
        "x-swapped",
        [Turn(turn.prompt, turn.second, turn.first) for turn in turns],
        {FIRST: SECOND, SECOND: FIRST, TIE: TIE}[answer],
    )
    assert other == expected
    back = swapped(other)
    assert (back.passage, back.answer, back.pairs, back.rationale) == (
        problem.passage,
        problem.answer,
        problem.pairs,
        problem.rationale,
    )


def test_a_swapped_copy_stands_behind_its_comparison_in_the_same_group() -> None:
    first, second = (comparison(name, [Turn(name, "a", "b")], SECOND) for name in "xy")
    made = with_swapped([first, second])
    assert [problem.id for problem in made] == ["x", "x-swapped", "y", "y-swapped"]
    assert [problem.answer for problem in made] == ["B", "A", "B", "A"]
    assert made[0].group == made[1].group != made[2].group == made[3].group


def test_prompts_are_one_group_whatever_their_case_and_white_space() -> None:
    assert prompt_group(["What is  2+2?\n", "Why?"]) == prompt_group(["what IS 2+2?", " why?"])
    assert prompt_group(["a b"]) != prompt_group(["a", "b"])


def test_frequencies_by_hand() -> None:
    problems = [comparison("x", [Turn("p", "a", "b")], letter) for letter in "AABC"]
    assert frequencies(problems) == {"A": 0.5, "B": 0.25, "C": 0.25}


def test_what_compares_nothing_cannot_be_swapped() -> None:
    with pytest.raises(ValueError, match="q: compares nothing"):
        swapped(Problem("q", "Which?", "A", "choice", choices=("x", "y", "z")))
