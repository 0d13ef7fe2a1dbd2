from __future__ import annotations

import time
from fractions import Fraction

import pytest

from markov_cot.grading.graders import exact_match, gold_letter, gold_text, letters_equal, numbers_equal
from markov_cot.grading.numerals import parse_number

EQUAL = [
    ("70,000", "70000"),
    ("$29.00", "29"),
    ("51.0", "51"),
    ("3.5", "7/2"),
    ("−7", "-7"),
    ("1/2", "0.5"),
    ("18.", "18"),
    ("18 eggs", "18"),
    ("50%", "50"),
    ("3 1/2", "3.5"),
    ("1.5e3", "1500"),
    ("2.5 × 10^-1", "0.25"),
    (".5", "0.5"),
    ("+3", "3"),
    ("-0", "0"),
    ("1,00,000", "100000"),
    ("2½", "2.5"),
    ("0.1", "1/10"),
    ("18", "16 + 2 = 18 #### 18"),
    ("18", "eighteen"),
    ("0.75", "$\\frac{3}{4}$"),
    ("42", "４２"),
    ("25", "25 cm^2"),
    ("90", "90^\\circ"),
    ("12", "12\\%"),
    ("5", "x = 5"),
    ("3.5", "3,5"),
    ("1234", "1'234"),
]
DIFFERENT = [
    ("3", "3.5"),
    ("18", "-18"),
    ("0.3333", "1/3"),
    ("3 or 4", "3"),
    ("5/0", "5"),
    ("3", "3\\pi"),
    ("2", "2x"),
    ("5", "5!"),
    ("2", "\\sqrt{2}"),
    ("3.4", "(3,4)"),
    ("", "0"),
    ("0.30000000000000004", "0.3"),
    ("100000000000000000001", "100000000000000000000"),
]


@pytest.mark.parametrize(("prediction", "gold"), EQUAL)
def test_equal_by_value(prediction: str, gold: str) -> None:
    assert numbers_equal(prediction, gold)


@pytest.mark.parametrize(("prediction", "gold"), DIFFERENT)
def test_different_by_value(prediction: str, gold: str) -> None:
    assert not numbers_equal(prediction, gold)


def test_invalid_is_never_right() -> None:
    assert not numbers_equal(None, "0")
    assert not letters_equal(None, "A")
    assert not exact_match(None, "18")


def test_tolerance_is_absolute_and_only_where_given() -> None:
    assert not numbers_equal("3.33", "10/3")
    assert numbers_equal("3.33", "10/3", tolerance=Fraction(1, 100))
    assert not numbers_equal("3.3", "10/3", tolerance=0.01)


@pytest.mark.parametrize("text", ["1e999999999", "1e-999999999", "9" * 100_000, "1/" + "9" * 100_000, "10^999999999"])
def test_absurd_sizes_cost_nothing(text: str) -> None:
    start = time.process_time()
    assert parse_number(text) is None
    assert not numbers_equal(text, "1")
    assert time.process_time() - start < 1


@pytest.mark.parametrize(
    ("prediction", "gold", "right"),
    [
        ("18", "18", True),
        ("18.", "18", True),
        ("$1,800", "1800", True),
        ("70,000", "70000", True),
        ("18", "9 * 2 = <<9*2=18>>18\n#### 18", True),
        ("18.0", "18", False),  # by value they are equal; lm-evaluation-harness compares text
        ("18..", "18", False),
        ("...", "..", False),
        ("...", "...", True),
    ],
)
def test_exact_match_by_hand(prediction: str, gold: str, right: bool) -> None:
    assert exact_match(prediction, gold) is right


def test_exact_match_is_linear() -> None:
    start = time.process_time()
    assert not exact_match("4" * 100_000, "4")
    assert time.process_time() - start < 1


@pytest.mark.parametrize("gold", ["C", "c", "(C)", "[c]", "C.", "C)", " C ", "C:"])
def test_gold_letters(gold: str) -> None:
    assert gold_letter(gold) == "C"
    assert letters_equal("C", gold)


@pytest.mark.parametrize(
    ("gold", "text"),
    [
        (18, "18"),
        (18.0, "18"),
        (0.1, "0.1"),
        (-7, "-7"),
        (1e22, "1" + 22 * "0"),
        ("70,000", "70,000"),
        ("x #### 5", "x #### 5"),
        ("1.234,5", "1.234,5"),
    ],
)
def test_gold_text(gold: object, text: str) -> None:
    assert gold_text(gold, "numeric") == text


@pytest.mark.parametrize("gold", [True, None, [], "none", "", "3 or 4", float("nan"), float("inf"), {"a": 1}])
def test_golds_that_are_no_number(gold: object) -> None:
    with pytest.raises(ValueError, match="is not a number"):
        gold_text(gold, "numeric")


@pytest.mark.parametrize("gold", ["E", "", "AB", 2, None, True])
def test_golds_that_are_no_choice(gold: object) -> None:
    with pytest.raises(ValueError, match="is not one of A-D"):
        gold_text(gold, "choice", 4)
