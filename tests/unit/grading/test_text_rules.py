"""What is read out of a response as a short text."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from markov_cot.grading.text_rules import anchor, exact, line

CASES: list[tuple[str, str | None, str | None]] = [
    # response, the first line, after a label
    ("Paris", "Paris", None),
    (" Denver Broncos\nThey won.", "Denver Broncos", None),
    ("\n\n  in 1912\n", "in 1912", None),
    ("Answer: Paris", "Paris", "Paris"),
    ("**Answer:** Paris", "Paris", "Paris"),
    ("**Answer: Paris**", "Paris", "Paris"),
    ("Final answer: *Paris*.", "Paris", "Paris"),
    ("A: Paris", "Paris", None),
    ("The answer is Paris.", "Paris.", "Paris"),
    ("So, the answer is: Paris", "Paris", "Paris"),
    ("A is the first letter", "A is the first letter", None),
    ("Answer:\n\nParis, France. It is old.", "Paris, France. It is old.", "Paris, France"),
    ('"Hamlet".', "Hamlet", None),
    ("“Hamlet”", "Hamlet", None),
    ("`x = 1`", "x = 1", None),
    ("(Rome)", "Rome", None),
    ('"A" and "B"', '"A" and "B"', None),
    ("*Hamlet* and *Othello*", "*Hamlet* and *Othello*", None),
    ("- Rome\n- Paris", "Rome", None),
    ("> Rome", "Rome", None),
    ("## Rome", "Rome", None),
    ("#### 1912", "1912", "1912"),
    ("\\boxed{New York}", "New York", "New York"),
    ("It is <answer>\nRome</answer>.", "It is", "Rome"),
    ("It lies in Ohio. The answer is St. Mary's. It is old.", "It lies in Ohio. The answer is St. Mary's. It is old.",
     "St. Mary's"),
    ("Its author? The answer is J. R. R. Tolkien. He", "Its author? The answer is J. R. R. Tolkien. He",
     "J. R. R. Tolkien"),
    ("answer to this is the U.S. Congress! It", "answer to this is the U.S. Congress! It", "the U.S. Congress"),
    ("The answer is Rome. No, the answer is Paris.", "Rome. No, the answer is Paris.", "Paris"),
    ("Answer: Paris\nAnswer:", "Paris", "Paris"),
    ("Answer:\nAnswer:", None, None),
    ("Answer: No. It never was.", "No. It never was.", "No"),
    ("We answer questions.", "We answer questions.", None),
    ("<think>Rome?</think>\nParis", "Paris", None),
    ("<think>The answer is Rome.", None, None),
    ("Paris\n\nQuestion: What else?\nAnswer: Rome", "Paris", None),
    ("Paris<|im_end|>Answer: Rome", "Paris", None),
    ("", None, None),
    (" \n ", None, None),
    ("**", "**", None),
]  # fmt: skip


@pytest.mark.parametrize(("response", "first", "labelled"), CASES)
def test_rules(response: str, first: str | None, labelled: str | None) -> None:
    assert (line(response), anchor(response)) == (first, labelled)


def test_exact_is_the_response_as_it_is() -> None:
    assert exact(" <think>x</think> Answer: Rome\nor Paris ") == "<think>x</think> Answer: Rome\nor Paris"
    assert exact("\n ") is None


@pytest.mark.parametrize(
    "response",
    ["Answer: " + "a. " * 50_000, "answer to " * 20_000, "<answer>" * 50_000, "\\boxed{a" * 50_000,
     "Answer:\n" * 50_000, "(" * 50_000 + ")" * 50_000, '"' * 50_000, "#### " * 50_000],
)  # fmt: skip
@pytest.mark.timeout(20)
def test_long_responses_take_no_time(response: str) -> None:
    line(response)
    anchor(response)


@pytest.mark.parametrize(
    ("rule", "text", "expected"),
    [
        (line, " Paris\nor Lyon", "Paris"),
        (line, "\n\nAnswer: Paris", "Paris"),
        (line, "**The answer is:** “Paris”", "Paris"),
        (line, "The final answer is the farmers", "the farmers"),
        (line, "<think>Lyon?</think>\nParis", "Paris"),
        (line, "Answers vary", "Answers vary"),
        (line, " \n ", None),
        (anchor, "I think so. The answer is Paris. It is big.", "Paris"),
        (anchor, "Answer: Lyon.\nNo. Answer: Paris", "Paris"),
        (anchor, "The answer to the question is J. R. Smith.", "J. R. Smith"),
        (anchor, "so\n#### 40 percent", "40 percent"),
        (anchor, "\\boxed{Paris}, as said", "Paris"),
        (anchor, "<answer>Paris</answer>", "Paris"),
        (anchor, "It is Paris.", None),
        (anchor, "The answer is", None),
        (exact, "  It is Paris. ", "It is Paris."),
        (exact, "", None),
    ],
)
def test_one_rule(rule: Any, text: str, expected: str | None) -> None:
    assert rule(text) == expected


@given(st.text(max_size=80))
def test_rules_take_any_text(text: str) -> None:
    for rule in (line, anchor, exact):
        found = rule(text)
        assert found is None or found.strip() == found != ""
