"""CoTs found in logs: measured as training measures its own, over enough of them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from markov_cot.alarms.logs.cot_texts import (
    FEWEST_WORDS,
    MEASURED,
    MEASURES,
    WINDOW,
    Cot,
    CotTexts,
    cots_in,
    kind_of,
    known_answer,
    measure,
)
from markov_cot.grading.cot_text import compression


def test_measures_of_a_text_by_hand() -> None:
    measures = measure(Cot("so 4 so 4 so 4", "4"))
    assert measures["cot/repetition"] == 1 - 2 / 3  # so4so4 4so4so so4so4
    assert measures["cot/distinct"] == 2 / 5
    assert measures["cot/longest_run"] == 0, "too short to tell"
    assert measures["cot/symbols"] == measures["cot/refusal"] == 0
    assert measures["cot/answer_in_cot"] == 1
    assert measures["cot/compression"] == compression("so 4 so 4 so 4")


def test_a_long_run_needs_a_text_of_some_length() -> None:
    assert measure(Cot("so " * FEWEST_WORDS))["cot/longest_run"] == 1
    assert measure(Cot("7"))["cot/longest_run"] == 0


def test_an_answer_that_is_not_known_is_not_judged() -> None:
    assert "cot/answer_in_cot" not in measure(Cot("so 4"))
    assert measure(Cot("so 4", states=0.25))["cot/answer_in_cot"] == 0.25
    assert measure(Cot("so 4", "4", states=0.0))["cot/answer_in_cot"] == 1, "the text says more"


def test_rows_of_one_cot_count_over_the_last_ones() -> None:
    texts = CotTexts()
    before = [texts.take([Cot("fine", "9")]) for _ in range(WINDOW - 1)]
    assert before == [{}] * (WINDOW - 1)
    full = texts.take([Cot("It is 9.", "9")])
    assert set(full) == set(MEASURES)
    assert full["cot/answer_in_cot"] == 1 / WINDOW
    assert texts.take([]) == {}, "a row without a CoT has nothing to say"
    later = [texts.take([Cot("fine", "9")])["cot/answer_in_cot"] for _ in range(WINDOW)]
    assert later == [1 / WINDOW] * (WINDOW - 1) + [0]


def test_a_row_of_many_cots_counts_by_itself() -> None:
    texts = CotTexts()
    texts.take([Cot("###")] * WINDOW)
    assert texts.take([Cot("abcd")] * WINDOW)["cot/symbols"] == 0


@pytest.mark.parametrize(
    ("row", "cots"),
    [
        ({"cot": "a", "answer": 7}, [Cot("a", "7")]),
        ({"completion": "a", "solution": "so 3+4. #### 7"}, [Cot("a", "7")]),
        ({"completions": ["a", "b"], "ground_truth": "B"}, [Cot("a", "B"), Cot("b", "B")]),
        ({"completion": [{"role": "assistant", "content": "a"}]}, [Cot("a")]),
        (
            {"completions": [[{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}], "b"]},
            [Cot("a"), Cot("b")],
        ),
        ({"completion": 3}, []),
        ({"completions": []}, []),
        ({"completions": [[[[["a"]]]]]}, []),
        ({"prompt": "a"}, []),
    ],
)
def test_where_cots_stand_in_a_row(row: dict[str, Any], cots: list[Cot]) -> None:
    assert cots_in(row) == cots


@pytest.mark.parametrize(
    ("value", "answer"),
    [
        ("Paris", "Paris"),
        (" 47 ", "47"),
        (47, "47"),
        (4.5, "4.5"),
        ("12+35 is\n#### 47", "47"),
        ("a text that goes on for so long that no CoT would ever repeat it word by word", ""),
        (None, ""),
        (True, ""),
        (["47"], ""),
    ],
)
def test_answers_that_a_cot_may_state(value: Any, answer: str) -> None:
    assert known_answer(value) == answer


@pytest.mark.parametrize(
    ("answer", "kind"),
    [("47", "numeric"), ("-4.5", "numeric"), ("1,000", "numeric"), ("B", "choice"), ("Paris", "text"), ("b", "text")],
)
def test_kinds_of_answers(answer: str, kind: str) -> None:
    assert kind_of(answer) == kind


HOSTILE = ["", "\x00" * 1_000_000, "a" * 1_000_000, "\x1b[31m" * 100, "‮abc‬" * 100, "\ud800", "💥" * 100]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_texts_have_measures(text: str) -> None:
    measures = measure(Cot(text, "47"))
    assert measures["cot/answer_in_cot"] == 0
    assert all(0 <= value <= MEASURED for value in measures.values())


@given(st.lists(st.text(max_size=30), min_size=1, max_size=40))
def test_means_lie_between_the_least_and_the_greatest(texts: list[str]) -> None:
    each = [measure(Cot(text)) for text in texts]
    for key, mean in CotTexts().take([Cot(text) for text in texts]).items():
        values = [measures[key] for measures in each]
        assert mean is not None and min(values) - 1e-9 <= mean <= max(values) + 1e-9
