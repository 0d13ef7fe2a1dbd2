from __future__ import annotations

import importlib.util

import pytest

from markov_cot.data import fields
from markov_cot.data.fields import RowError


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (70000, "70000"),
        ("70,000", "70000"),
        (" 1,234,567 ", "1234567"),
        ("1,00,000", "100000"),  # Indian grouping
        ("$29.00", "29"),
        ("-$5", "-5"),
        ("\u22125", "-5"),  # a minus sign instead of a hyphen
        ("+5", "5"),
        (51.0, "51"),
        ("145.0", "145"),
        (3.5, "3.5"),
        ("0.50", "0.5"),
        (".5", "0.5"),
        ("5.", "5"),
        ("100", "100"),  # zeros before the point are kept
        ("007", "7"),
        (1e20, "100000000000000000000"),
        (1e-7, "0.0000001"),
        (-0.0, "0"),
        ("0", "0"),
        ("12345678901234567890123456789012345", "12345678901234567890123456789012345"),  # no rounding
        ("1/2", "1/2"),
        ("3 1/2", "3 1/2"),
        ("2½", "2 1/2"),
        ("$\\frac{3}{4}$", "3/4"),
        ("\\boxed{7}", "7"),
        ("50%", "50"),
        ("12\\%", "12"),
        ("18 dollars", "18"),
        ("5 km/h", "5"),
        ("25 cm^2", "25"),
        ("1.5e3", "1500"),
        ("2 \\times 10^{-2}", "0.02"),
        ("1e400", "1e400"),  # too long to write out
        ("Add them: 35 + 37 = <<35+37=72>>72\n#### 72", "72"),
        ("４２", "42"),
        ("٤٢", "42"),
        ("twelve", "12"),
        ("3,5", "3.5"),  # no English number, so a decimal comma
        ("1.234,56", "1234.56"),
        ("1'234", "1234"),
        ("1.234", "1.234"),  # one point is a decimal point
    ],
)
def test_numbers_are_written_plainly(value: object, expected: str) -> None:
    assert fields.number_text(value, "answer") == expected


@pytest.mark.parametrize(
    "value",
    ["", "  ", "Paris", "1.2.3", ".", "-", "$", "3 or 4", "5:30", "5/0", "1e999999999", "nan", "none", "x #### "],
)
def test_text_that_is_no_number_is_refused(value: str) -> None:
    with pytest.raises(RowError, match="answer is empty" if not value.strip() else "is not a number"):
        fields.number_text(value, "answer")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (True, "expected a number, got true"),
        (None, r"expected a number, got nothing \(null\)"),
        ([1], "expected a number, got a list"),
        (float("nan"), "nan is not a number"),
        (float("inf"), "inf is not a number"),
    ],
)
def test_values_that_are_no_numbers_are_refused(value: object, message: str) -> None:
    with pytest.raises(RowError, match=message):
        fields.number_text(value, "answer")


SYMBOLIC = [
    "3\\pi",
    "2\\sqrt{3}",
    "2x",
    "x + 1",
    "3i",
    "5!",
    "2^{10}",
    "π",
    "(3, 4)",
    "\\frac{\\pi}{4}",
    "3 + 4",
    "x > 5",
]


@pytest.mark.parametrize("value", SYMBOLIC)
def test_expressions_are_refused_where_nothing_compares_them(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RowError, match=r"is not a number but an expression; .*pip install '\.\[math-verify\]'"):
        fields.number_text(value, "answer")


def test_expressions_stay_as_they_are_where_they_can_be_compared() -> None:
    pytest.importorskip("math_verify")
    assert [fields.number_text(value, "answer") for value in SYMBOLIC] == SYMBOLIC


def test_text_fields() -> None:
    row = {"a": "  x\n", "empty": " \n", "none": None, "number": 3, "surrogate": "ab\ud800"}
    assert fields.text(row, "a") == "x"
    assert (
        fields.optional_text(row, "empty") == fields.optional_text(row, "none") == fields.optional_text(row, "no") == ""
    )
    with pytest.raises(RowError, match=r"^field 'b' is missing \(the row has a, empty, none, number, surrogate\)$"):
        fields.text(row, "b")
    with pytest.raises(RowError, match=r"^empty is empty$"):
        fields.text(row, "empty")
    with pytest.raises(RowError, match=r"^number: expected text, got a number$"):
        fields.text(row, "number")
    with pytest.raises(RowError, match="lone surrogate at character 3"):
        fields.text(row, "surrogate")
    with pytest.raises(RowError, match=r"^a: expected a list, got text$"):
        fields.texts(row, "a")
    with pytest.raises(RowError, match="expected an object with fields, got a list"):
        fields.as_object([1])


def test_choices() -> None:
    assert fields.choice_texts([" x ", 2, 3.5], "choices") == ("x", "2", "3.5")
    for count in (2, 6):
        with pytest.raises(RowError, match=f"^choices: expected 3 to 5 choices, got {count}$"):
            fields.choice_texts(["x"] * count, "choices")
    with pytest.raises(RowError, match=r"^choices: choice B is empty$"):
        fields.choice_texts(["x", " ", "y"], "choices")
    with pytest.raises(RowError, match="choice C: expected text, got true"):
        fields.choice_texts(["x", "y", True], "choices")


def test_letters_are_looked_up_whole() -> None:
    assert fields.choice_letter("2", "123", "key") == "B"
    for label in ("", "AB", "F", None):  # "AB" is part of "ABC", but not a label
        with pytest.raises(RowError, match="not among the choices' labels A, B, C"):
            fields.choice_letter(label, "ABC", "key")


def test_long_values_are_cut_in_messages() -> None:
    assert len(fields.shown("x" * 500)) == 60
