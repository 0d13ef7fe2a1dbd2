from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from markov_cot.grading.extractors import PRIMARY, credit, get_extractor, grade
from markov_cot.grading.text import normalised, texts_equal, token_f1

words = st.text(alphabet=string.ascii_letters + string.digits + " .,;'\"-!?éü“”", max_size=40)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The Denver Broncos.", "denver broncos"),
        ("a  man,\n an apple; the END", "man apple end"),
        ("Another theater", "another theater"),  # articles are whole words
        ("6½ sacks", "6½ sacks"),
        ("don't", "dont"),
        ("e\u0301t\u00e9", "\u00e9t\u00e9"),  # NFC
        ("1961–1963", "1961–1963"),  # only ASCII punctuation goes, as in SQuAD's script
        ("The.", ""),
    ],
)
def test_normalisation_by_hand(text: str, expected: str) -> None:
    assert normalised(text) == expected


def test_articles_are_a_setting() -> None:
    assert normalised("Der Hund the cat", ("der", "die", "das")) == "hund the cat"
    assert normalised("the cat", ()) == "the cat"
    german = PRIMARY["text"].for_articles(("der",))
    assert grade(german, "der Hund", "Hund") == ("der Hund", True)
    assert grade(PRIMARY["text"], "der Hund", "Hund") == ("der Hund", False)
    assert credit(german, "der Hund", "Hund") == 1
    assert german.vote("Der Hund!") == german.vote("hund") != PRIMARY["text"].vote("Der Hund!")
    assert PRIMARY["numeric"].for_articles(("der",)) is PRIMARY["numeric"]


@pytest.mark.parametrize(
    ("prediction", "gold", "expected"),
    [
        # 2 common of 3 and 4: precision 2/3, recall 1/2, F1 4/7.
        ("red green blue", "green blue black white", 4 / 7),
        ("to to be", "to be or not to be", 6 / 9),  # each as often as it is there
        ("Paris", "Lyon", 0.0),
        ("the", "a", 1.0),
        ("the", "Paris", 0.0),
        (None, "Paris", 0.0),
    ],
)
def test_f1_by_hand(prediction: str | None, gold: str, expected: float) -> None:
    assert token_f1(prediction, gold) == pytest.approx(expected)


@given(words, words)
def test_f1_is_symmetric_and_1_exactly_for_the_same_words_in_any_order(one: str, other: str) -> None:
    value = token_f1(one, other)
    assert 0 <= value <= 1 and value == token_f1(other, one)
    assert (value == 1) == (sorted(normalised(one).split()) == sorted(normalised(other).split()))
    if texts_equal(one, other):
        assert value == 1


@given(words)
def test_case_spaces_and_punctuation_do_not_count(text: str) -> None:
    changed = f"  {text.upper()} ... ".replace(" ", "  ")
    assert texts_equal(changed, text) and token_f1(changed, text) == 1
    assert normalised(normalised(text)) == normalised(text)


@given(words, st.lists(words, min_size=1, max_size=4))
def test_the_best_of_the_accepted_answers_counts(response: str, golds: list[str]) -> None:
    extractor = get_extractor("text", "exact")
    predicted, right = grade(extractor, response, golds)
    assert right == any(grade(extractor, response, gold)[1] for gold in golds)
    assert credit(extractor, predicted, golds) == max(token_f1(predicted, gold) for gold in golds)
