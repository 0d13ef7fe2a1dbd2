"""Hard texts for the choice extractors: each row is (text, what each extractor of interest must read, why)."""

from __future__ import annotations

import time

import pytest

from markov_cot.grading.extractors import default_extractors, extract, get_extractor

Expected = dict[str, str | None]
FOUR = ("",) * 4


def both(letter: str | None, **others: str | None) -> Expected:
    return {"word-boundary": letter, "anchor": letter} | {name.replace("_", "-"): v for name, v in others.items()}


CASES: list[tuple[str, Expected, str]] = [
    ("C", both("C", legacy="C", legacy_boundary="C"), "nothing but the letter"),
    ("c", both("C"), "in either case"),
    ("a", both("A"), "even the article, alone"),
    (" d.\n", both("D"), "with space and full stop"),
    ("(c)", both("C"), "in brackets"),
    ("[b]", both("B"), "in square brackets"),
    ("**B**", both("B"), "in markdown"),
    ("`D`", both("D"), "in backticks"),
    ("$C$", both("C"), "in LaTeX"),
    ("\\boxed{C}", both("C", legacy="B"), "in a box"),
    ("\\boxed{\\text{(C)}}", both("C"), "in words in a box"),
    ("It is a C", both("C", legacy="A", legacy_boundary="A"), "the article is no answer"),
    ("I'd say C", both("C", legacy="D", legacy_boundary="D"), "nor is the d of I'd"),
    ("The answer is c", both("C", legacy=None), "a small letter after a label"),
    ("The answer is a.", both("A"), "even an a, where no noun follows"),
    ("The answer is a dog", both(None), "but not as an article"),
    ("The answer is a because it fits", both("A"), "no noun, so the letter"),
    ("Answer: A dog", both(None), "a capital article"),
    ("A dog barks", both(None, legacy="A"), "at the start"),
    ("It barks. A dog, then", both(None), "or of a later sentence"),
    ("A is correct", both("A"), "no article comes before a verb"),
    ("A, because it is", both("A"), "nor before a comma"),
    ("I choose A", both("A"), "a capital A inside a sentence"),
    ("I think so", both(None), "the pronoun"),
    ("I", both(None), "alone it is no choice of four"),
    ("a cat and a dog", both(None), "small letters stand for nothing"),
    ("It's b", both(None), "without a label or bracket"),
    ("A) 12 B) 15 C) 18", both(None, legacy="A"), "the choices listed"),
    ("A) 12\nB) 15\nC) 18\nD) 20", both(None), "on lines"),
    ("A. 12\nB. 15", both(None), "cut off after two"),
    ("a) 12 b) 15 c) 18", both(None), "in small letters"),
    ("(A) 12 (B) 15 (C) 18", both(None), "in brackets"),
    ("A: 12, B: 15, C: 18", both(None), "with colons"),
    ("A is 12, B is 15, C is 18", both(None), "in words"),
    ("A, B, C or D", both(None, legacy_boundary="A"), "a list"),
    ("A, B, C, D", both(None), "without or"),
    ("A/B/C/D", both(None), "with slashes"),
    ("A B C D", both(None), "with spaces"),
    ("one of A-D", both(None), "a range"),
    ("options A through D", both(None), "a range in words"),
    ("(A), (B), (C) and (D)", both(None), "a list in brackets"),
    ("Answer: A, B, C or D", both(None), "a list after a label"),
    ("Answer: A) 12 B) 15 C) 18", both(None), "headings after a label"),
    ("B or C", both(None), "hedging is no answer"),
    ("A) 12\nB) 15\nC) 18\nAnswer: B", both("B"), "a list, then an answer"),
    ("A) 12\nB) 15\nC) 18\nB) 15", both("B"), "a heading repeated out of order is the answer"),
    ("Of A, B, C and D I pick B", both("B"), "a list, then a choice"),
    ("C. they are not rotating", both("C"), "one heading is the answer"),
    ("c) 18", both("C"), "a small one, too"),
    ("So (B) 15 it is", both("B"), "in mid-sentence"),
    ("(b) 15", both("B"), "a small one in brackets"),
    ("E", both(None, legacy=None), "no choice of four"),
    ("The answer is E", both(None), "nor after a label"),
    ("E, not C", both(None), "invalid, not the next letter"),
    ("The answer is F. Or B", both(None), "a letter beyond them is an answer, an invalid one"),
    ("B is wrong. C is right", both("C", legacy="B"), "ruled out, then called right"),
    ("Not B but C", both("C"), "negated"),
    ("The answer isn't A. D fits", both("D"), "negated after a label"),
    ("C is the answer, not D", both("C"), "the label after the letter"),
    ("The answer is B. No: the answer is C", both("C"), "the last label wins"),
    ("Perhaps B. Then again D", {"word-boundary": "B", "anchor": "D"}, "no label: the first, or the last"),
    ("Perhaps B. On reflection D", both("D"), "but a correction counts"),
    ("The answer is (B). A and C are close", both("B"), "a label beats other letters"),
    ("The correct option is b", both("B"), "another label"),
    ("The answer to the question is: C", both("C"), "a long label"),
    ("answer\n\nC", both("C"), "a heading for a label"),
    ("<answer>B</answer>", both("B", legacy="A"), "a tag"),
    ("#### C", both("C"), "GSM8K's mark"),
    ("答案是C", both("C", legacy_boundary=None), "no space in Chinese"),
    ("Take vitamin C daily", both(None), "a name"),
    ("A + B = C", both(None), "variables"),
    ("It was 20 °C", both(None), "a unit"),
    ("in Washington D.C.", both(None), "an abbreviation"),
    ("C's mistake", both(None), "a possessive"),
    ("ABCD", both(None, legacy="A", legacy_boundary=None), "letters of a word"),
    ("", both(None, legacy=None, legacy_boundary=None, choice_text=None), "nothing"),
    ("44444444", both(None, legacy=None), "a collapsed model's output"),
]


@pytest.mark.parametrize(("text", "expected", "why"), CASES, ids=[f"{i} {why}" for i, (_, _, why) in enumerate(CASES)])
def test_hard_texts(text: str, expected: Expected, why: str) -> None:
    found = {name: extract(get_extractor("choice", name), text, FOUR) for name in expected}
    assert found == expected, why


def test_the_table_is_large_enough() -> None:
    assert len({text for text, _, _ in CASES}) >= 60


ANIMALS = ("a dog", "a wild dog", "the cat", "70,000")
TEXT_CASES: list[tuple[str, tuple[str, ...], str | None, str]] = [
    ("The cat!", ANIMALS, "C", "case and punctuation do not matter"),
    ("cat", ANIMALS, "C", "nor do articles"),
    ("It is a wild dog.", ANIMALS, "B", "a choice inside a longer one is not written"),
    ("It is a dog.", ANIMALS, "A", "the shorter one alone is"),
    ("A dog or the cat", ANIMALS, None, "two are none"),
    ("Not a dog. Answer: the cat", ANIMALS, "C", "unless one comes after the label"),
    ("dogs", ANIMALS, None, "words are whole"),
    ("70000", ANIMALS, "D", "thousands separators do not matter"),
    ("170,000", ANIMALS, None, "numbers are whole"),
    ("12.5 m", ("12", "5", "12.5", "-5"), "C", "decimals are whole"),
    ("-5", ("12", "5", "12.5", "-5"), "D", "a sign is part of the number"),
    ("x + 2", ("x+2", "x-2", "x=2", "2"), "A", "spaces around operators do not matter"),
    ("C", ANIMALS, None, "a letter is no text"),
    ("same", ("same", "same", "other"), None, "choices with one text cannot be told apart"),
    ("the cat", ("", "", "", ""), None, "nothing is known of the texts"),
    ("a a a", ("a", "b", "c", "d"), None, "a single letter is not searched for"),
]


@pytest.mark.parametrize(("text", "choices", "expected", "why"), TEXT_CASES, ids=[case[3] for case in TEXT_CASES])
def test_choice_text(text: str, choices: tuple[str, ...], expected: str | None, why: str) -> None:
    assert extract(get_extractor("choice", "choice-text"), text, choices) == expected, why


def test_five_and_ten_choices() -> None:
    rule = get_extractor("choice", "word-boundary")
    assert extract(rule, "The answer is E", ("",) * 5) == "E"
    assert extract(rule, "The answer is I", ("",) * 10) == "I"
    assert extract(rule, "I think so", ("",) * 10) is None
    assert extract(rule, "It must be J.", ("",) * 10) == "J"


def test_without_choices_every_letter_is_invalid() -> None:
    assert [extract(extractor, "The answer is A") for extractor in default_extractors("choice")] == [None] * 5


LONG = 20_000  # quadratic work on it would take minutes
HOSTILE = [
    *(
        "wait A. ",
        "no, B. ",
        "actually ",
        "not A but ",
        "i do not know ",
        "<think>",
        "</think>",
        "\nQ: ",
        "A or ",
        "not c ",
    ),
    *("A", "A ", "A, ", "A) ", "a) ", "(a) ", "A\n", "A.", "A is ", "A or ", "not A ", "is correct ", "I ", "a b c "),
    *(
        "answer is ",
        "answer is A ",
        "answer to ",
        "answer (",
        "correct option ",
        "#",
        "\\boxed{",
        "(",
        "*",
        " ",
        "\n",
        "-",
    ),
]


@pytest.mark.parametrize("unit", HOSTILE)
def test_no_text_takes_long(unit: str) -> None:
    text = (unit * LONG)[:LONG]
    start = time.process_time()
    for extractor in default_extractors("choice"):
        extract(extractor, text, ("a b", "c", "is correct", "x"))
    assert time.process_time() - start < 10
