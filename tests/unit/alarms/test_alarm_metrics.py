from __future__ import annotations

import pytest

from markov_cot.data.problem import Problem
from markov_cot.tracking.metrics import answers_first, cot_metrics


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


def test_metrics_of_a_step_by_hand() -> None:
    """Two problems of two CoTs each; ids and texts are given side by side."""
    problems = [Problem("", "12+35?", "47", "numeric"), Problem("", "1+1?", "2", "numeric")]
    texts = ["so 47", "#@", "I cannot determine it", "2"]
    metrics = cot_metrics([[1, 2], [3, 3], [1, 2], [4, 5]], texts, problems)
    assert metrics["cot/answer_in_cot"] == 2 / 4
    assert metrics["cot/refusal"] == 1 / 4
    assert metrics["cot/symbols"] == 1 / 4  # all of one text
    assert metrics["cot/longest_run"] == (0.5 + 1 + 0.5 + 0.5) / 4
    assert metrics["leak/answer_first"] == 2 / 4


def test_continuations_are_not_expected_in_a_cot() -> None:
    metrics = cot_metrics([[1]], ["sat on the mat"], [Problem("", "", "sat on the mat", "continuation", passage="It")])
    assert "cot/answer_in_cot" not in metrics and "cot/symbols" in metrics
