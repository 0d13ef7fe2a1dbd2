"""Hard texts for the number extractors: each row is (text, what each extractor of interest must read, why)."""

from __future__ import annotations

import time

import pytest

from markov_cot.grading.extractors import default_extractors, extract, get_extractor

Expected = dict[str, str | None]

CASES: list[tuple[str, Expected, str]] = [
    ("18", {"anchor": "18", "simple": "18", "flexible-extract": "18", "strict-match": None}, "nothing but the number"),
    ("The answer is 18.", {"anchor": "18", "flexible-extract": "18."}, "a full stop is no decimal point"),
    ("The answer is 70,000.", {"anchor": "70000", "simple": "70000"}, "thousands separators"),
    ("Answer: $29.00", {"anchor": "29.00", "simple": "29", "flexible-extract": "$29.00"}, "currency and cents"),
    ("Answer: 3.5", {"anchor": "3.5", "simple": "3"}, "decimals, which earlier code cut off"),
    ("Answer: -7", {"anchor": "-7", "simple": "-7"}, "a sign"),
    ("Answer: −7", {"anchor": "-7", "simple": "7"}, "a Unicode minus"),
    ("Answer: –7", {"anchor": "-7"}, "an en dash for a minus"),
    ("x = - 7", {"anchor": "-7", "simple": "7"}, "a sign apart, after an equals sign"),
    ("Answer: -$5", {"anchor": "-5"}, "a sign before the currency"),
    ("Answer: $-5", {"anchor": "-5"}, "a sign after the currency"),
    ("5-3", {"anchor": "3", "flexible-extract": "-3"}, "subtraction is no sign"),
    ("first 5 -3", {"anchor": "3"}, "nor is it with one space"),
    ("I ran GPT-4", {"anchor": "4", "simple": "-4"}, "a hyphen in a name is no sign"),
    ("room 10-15", {"anchor": None}, "a range is neither a negative number nor its end"),
    ("Answer: 1/2", {"anchor": "1/2", "simple": "1"}, "a fraction"),
    ("Answer: 3 1/2 cups", {"anchor": "3 1/2"}, "a mixed number"),
    ("Answer: 2½ cups", {"anchor": "2 1/2"}, "a vulgar fraction"),
    ("Answer: \\frac{3}{4}", {"anchor": "3/4"}, "a LaTeX fraction"),
    ("Answer: $-\\dfrac{1}{2}$", {"anchor": "-1/2"}, "a negative one"),
    ("Answer: \\frac12", {"anchor": "1/2"}, "one without braces"),
    ("Answer: 1.2e5", {"anchor": "1.2e5"}, "scientific notation"),
    ("Answer: 3 × 10⁻² m", {"anchor": "3e-2"}, "superscripts"),
    ("Answer: $4 \\times 10^{3}$", {"anchor": "4e3"}, "LaTeX powers of ten"),
    ("Answer: 70{,}000", {"anchor": "70000"}, "LaTeX thousands separators"),
    ("Answer: 70\u202f000", {"anchor": "70000"}, "narrow no-break spaces between thousands"),
    ("Answer: 1,00,000", {"anchor": "100000"}, "Indian grouping"),
    ("Answer: 50%", {"anchor": "50"}, "per cent is a unit"),
    ("Answer: 5kg", {"anchor": "5"}, "a unit without a space"),
    ("There are 12 of H2O", {"anchor": "12", "flexible-extract": "2"}, "a digit inside a name is no number"),
    ("Answer: 5 m^2", {"anchor": "5"}, "a unit's power is no number"),
    ("16 - 3 - 4 = 9", {"anchor": "9", "simple": "9"}, "the last equals sign decides"),
    ("2 + 2 = 4, so 4 * 3 = 12 eggs for 5 days", {"anchor": "12", "simple": "12"}, "also before later numbers"),
    ("3 hens and then 4 ducks", {"anchor": "4", "simple": "3"}, "without label and equals sign the last number"),
    ("The answer is 5. No: the answer is 6.", {"anchor": "6"}, "the last label wins"),
    ("Answer: 18\nCheck: 16 + 2 = 18.5", {"anchor": "18"}, "a label beats a later equals sign"),
    ("Answer: 9 * 2 = 18 per day", {"anchor": "18"}, "an equation after the label"),
    ("Answer: 18 (9 x 2 = 18 at $2)", {"anchor": "18"}, "an aside after the answer"),
    ("Answer: 18, because 36 = 2 * 18", {"anchor": "18"}, "a reason after the answer"),
    ("Answer (in dollars): 29", {"anchor": "29"}, "a label with a bracket"),
    ("The answer to question 3 is 18", {"anchor": "18"}, "a number inside the label"),
    ("**Answer:** **18**", {"anchor": "18"}, "markdown"),
    ("Final Answer\n\n18", {"anchor": "18"}, "a heading for a label"),
    ("Answer:\n\n$18", {"anchor": "18"}, "the number two lines on"),
    ("ANSWER = 18", {"anchor": "18"}, "upper case"),
    ("Ans: 18", {"anchor": "18"}, "an abbreviation"),
    ("<answer>18</answer>", {"anchor": "18"}, "a tag"),
    ("#### 18", {"anchor": "18", "strict-match": "18", "flexible-extract": "18"}, "GSM8K's mark"),
    ("#### 70,000", {"anchor": "70000", "strict-match": "70,000"}, "lm-eval keeps it as written"),
    ("#### -5.", {"anchor": "-5", "strict-match": "-5."}, "and with its full stop"),
    ("#### $18", {"anchor": "18", "strict-match": None}, "lm-eval's strict match knows no dollar"),
    ("####18", {"anchor": "18", "strict-match": None}, "and insists on the space"),
    ("#### 1\n#### 2", {"anchor": "2", "strict-match": "1"}, "lm-eval's strict match takes the first"),
    ("To answer this, find 3 + 4. It is 7 apples", {"anchor": "7"}, "the verb is no label"),
    ("My answer is unsure; maybe 7", {"anchor": "7"}, "a label is bound to a number of its sentence"),
    ("Answer: 18. I hope this answer helps", {"anchor": "18"}, "a later label without a number is passed over"),
    ("x <= 5 or y >= 6", {"anchor": "6"}, "comparisons are no equals signs"),
    ("so x ≈ 3.33 and rest 1", {"anchor": "3.33"}, "nearly equal counts"),
    ("\\boxed{42}", {"anchor": "42", "boxed": "42"}, "a box"),
    ("\\boxed{1} then \\boxed{2}", {"boxed": "2"}, "the last box"),
    ("\\boxed{\\frac{1}{2}}", {"boxed": "1/2"}, "nested braces"),
    ("\\boxed{\\text{18 eggs}}", {"boxed": "18"}, "words in the box"),
    ("\\boxed{18\\text{ eggs}}", {"boxed": "18"}, "a unit in the box"),
    ("\\boxed{x = 5}", {"boxed": "5"}, "an equation in the box"),
    ("\\boxed{70{,}000}", {"boxed": "70000"}, "braces inside a number"),
    ("\\boxed{90^\\circ}", {"boxed": "90"}, "degrees"),
    ("\\boxed{5 km/h}", {"boxed": "5"}, "a unit with a slash"),
    ("\\boxed{25\\%}", {"boxed": "25"}, "per cent in LaTeX"),
    ("\\boxed{\\$18.50}", {"boxed": "18.50"}, "dollars in LaTeX"),
    ("\\boxed{2\\sqrt{3}}", {"boxed": None}, "a value this rule cannot compute is invalid, not 2"),
    ("\\boxed{3, 5}", {"boxed": None}, "two numbers are no answer"),
    ("\\boxed{x/2}", {"boxed": None}, "nor is an expression"),
    ("\\boxed{7} and \\boxed{8", {"boxed": "7"}, "a box cut off is none"),
    ("18", {"boxed": None}, "no box"),
    ("Well...", {"anchor": None, "flexible-extract": "...", "simple": None}, "lm-eval reads an ellipsis"),
    ("", {"anchor": None, "simple": None, "strict-match": None, "flexible-extract": None, "boxed": None}, "nothing"),
    ("five", {"anchor": "5", "simple": None, "flexible-extract": None}, "words are read by anchor only"),
    ("<think>\\boxed{1}</think> \\boxed{2", {"boxed": None, "simple": "1"}, "reasoning is no box"),
    ("\\boxed{1.234,5}", {"boxed": None}, "a form that is not in use"),
    ("\\boxed{１２}", {"boxed": "12", "simple": "12"}, "full-width digits"),
    ("#### 5 or 6", {"anchor": None, "strict-match": "5", "flexible-extract": "6"}, "lm-eval's rules hedge nothing"),
    ("<think>#### 5</think> 6", {"anchor": "6", "strict-match": "5"}, "nor do they know of reasoning"),
    ("5/0", {"anchor": None}, "no value, so invalid"),
    ("1e999999999", {"anchor": None, "simple": "1"}, "an absurd size is invalid, and costs nothing"),
    ("4" * 5000, {"anchor": None, "simple": None, "flexible-extract": "4" * 5000}, "a collapsed model's output"),
    ("7 = 3,4", {"simple": "34"}, "the old rule drops commas before it looks"),
]


@pytest.mark.parametrize(("text", "expected", "why"), CASES, ids=[why for _, _, why in CASES])
def test_hard_texts(text: str, expected: Expected, why: str) -> None:
    found = {name: extract(get_extractor("numeric", name), text) for name in expected}
    assert found == expected, why


def test_the_table_is_large_enough() -> None:
    assert len({text for text, _, _ in CASES}) >= 60


LONG = 20_000  # quadratic work on it would take minutes
HOSTILE = [
    *(
        "4",
        "1,11,",
        "1 2/",
        "1 x 10 ",
        "=",
        "= x ",
        "answer is ",
        "answer to ",
        "answer (",
        "answer: x\n",
        "#### ",
        "$",
    ),
    *(
        "wait ",
        "no, ",
        "actually 1 ",
        "it is ",
        "it is 1 ",
        "1 or ",
        "1 to ",
        "1, ",
        "not 1 ",
        "**1** ",
        "**1",
        "<think>",
        "</think>",
        "\nQuestion: ",
        "one ",
        "a hundred and ",
        "1 and 1/2 ",
        "1.234,",
        "1 234 ",
        "1'",
        "i do not know ",
        "not enough ",
        "１，０００",
        "1 pen is ",
        "she needs 1 for ",
    ),
    *("\\boxed{", "\\text{1", "\\frac{1", "10^{", "1e", "1.", "1/", "-", ",", " ", "*", "1\u00a0111", "½", "{,}"),
]


@pytest.mark.parametrize("unit", HOSTILE)
def test_no_text_takes_long(unit: str) -> None:
    text = (unit * LONG)[:LONG]
    start = time.process_time()
    for extractor in default_extractors("numeric"):
        extract(extractor, text)
        extract(extractor, f"\\boxed{{answer: {text}}}")
    assert time.process_time() - start < 10
