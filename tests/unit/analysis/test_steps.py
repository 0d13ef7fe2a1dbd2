from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from markov_cot.analysis.steps import make_mistake, split_steps, step_ids, token_ends


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("12+30=42\n42+5=47\nSo 47. Done.", ["12+30=42\n", "42+5=47\n", "So 47.", " Done."]),
        ("It is 3.5 km. Is it far? Yes!", ["It is 3.5 km.", " Is it far?", " Yes!"]),
        ("no end", ["no end"]),
        ("1. Add.\n2. Stop.", ["1. Add.", "\n2. Stop."]),
        ("\n\nOne.\n \n", ["\n\nOne.\n \n"]),
        ("", [""]),
        (" \n", [" \n"]),
    ],
)
def test_split_by_hand(text: str, steps: list[str]) -> None:
    assert split_steps(text) == steps


@given(st.text(st.sampled_from("ab1.!? \n"), max_size=40))
def test_steps_are_the_text(text: str) -> None:
    found = split_steps(text)
    assert "".join(found) == text
    assert all(step.strip() for step in found) or len(found) == 1


@given(text=st.text(st.sampled_from("ab12.!? \n=+é"), max_size=30))
def test_steps_of_tokens_are_the_cot(tokenizer: Any, text: str) -> None:
    ids = tokenizer(text, add_special_tokens=False).input_ids
    steps = step_ids(ids, tokenizer.decode)
    assert [token for step in steps for token in step] == ids
    assert len(steps) <= max(1, len(split_steps(text)))


def test_steps_of_tokens_by_hand(tokenizer: Any) -> None:
    ids = tokenizer("12+30=42\n42+5=47\nSo 47.", add_special_tokens=False).input_ids
    assert [tokenizer.decode(step) for step in step_ids(ids, tokenizer.decode)] == ["12+30=42\n", "42+5=47\n", "So 47."]


def test_mistake_by_hand(tokenizer: Any) -> None:
    ids = tokenizer(" 12+30=42\nSo 42.", add_special_tokens=False).input_ids
    ends = token_ends(ids, tokenizer.decode)
    # Four numbers: 0.5 is the first of them with choice [0.5, 0.75), the third; 0.99 of it adds 10, 0.0 adds 1.
    for choice, text in ((0.5, " 12+30=43"), (0.5 + 0.99 / 4, " 12+30=52"), (0.0, " 13"), (0.999, " 12+30=42\nSo 52")):
        mistake = make_mistake(ids, tokenizer.decode, choice)
        assert mistake
        before = ends[mistake.kept - 1] if mistake.kept else 0
        assert tokenizer.decode(ids)[:before] + mistake.text == text


def test_no_mistake_without_a_whole_number(tokenizer: Any) -> None:
    for text in ("no number", "0.5 and 1,234", ""):
        ids = tokenizer(text, add_special_tokens=False).input_ids
        assert make_mistake(ids, tokenizer.decode, 0.3) is None
