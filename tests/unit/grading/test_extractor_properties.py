"""Property tests: any number written in any supported way is read, and no text makes an extractor raise."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from markov_cot.grading.extractors import PRIMARY, default_extractors, extract, get_extractor
from markov_cot.grading.graders import exact_match, letters_equal, numbers_equal
from markov_cot.grading.numerals import parse_number

Written = tuple[str, Fraction]
SIGNS = st.sampled_from(["", "-", "−", "–", "+"])
SMALL = st.integers(1, 999)


def signed(sign: str, value: Fraction) -> Fraction:
    return value if sign in ("", "+") else -value


@st.composite
def decimals(draw: st.DrawFn) -> Written:
    whole, places = draw(st.integers(0, 10**15)), draw(st.sampled_from(["", ".0", ".5", ".25", ".00", ".875"]))
    style = draw(st.sampled_from(["{}", "{:,}"]))
    sign, currency = draw(SIGNS), draw(st.sampled_from(["", "$", "€", "£", "\\$"]))
    text = style.format(whole) + places
    inside = draw(st.booleans()) and currency
    written = f"{currency}{sign}{text}" if inside and sign != "+" else f"{sign}{currency}{text}"
    return written, signed(sign, Fraction(f"{whole}{places}"))


@st.composite
def fractions(draw: st.DrawFn) -> Written:
    whole, above, below = draw(SMALL), draw(SMALL), draw(SMALL)
    sign = draw(SIGNS)
    share = Fraction(above, below)
    text, value = draw(
        st.sampled_from(
            [
                (f"{above}/{below}", share),
                (f"{above} / {below}", share),
                (f"{whole} {above}/{below}", whole + share),
                (f"\\frac{{{above}}}{{{below}}}", share),
                (f"{whole}\\dfrac{{{above}}}{{{below}}}", whole + share),
                (f"{whole}½", whole + Fraction(1, 2)),
                ("¾", Fraction(3, 4)),
            ]
        )
    )
    return sign + text, signed(sign, value)


@st.composite
def scientific(draw: st.DrawFn) -> Written:
    tenths, power, sign = draw(st.integers(10, 99)), draw(st.integers(-30, 30)), draw(SIGNS)
    style = draw(st.sampled_from(["{}e{}", "{}E{}", "{} × 10^{}", "{} x 10^{}", "{} \\times 10^{{{}}}", "{}*10**{}"]))
    value = Fraction(tenths, 10) * Fraction(10) ** power
    return sign + style.format(f"{tenths // 10}.{tenths % 10}", power), signed(sign, value)


NUMBERS = st.one_of(decimals(), fractions(), scientific())
UNITS = st.sampled_from(["", " eggs", "%", " dollars", " km/h", ".", ",", "!", "**", "\n"])
CONTEXTS = st.sampled_from(
    [
        "{}",
        "The answer is {}",
        "Answer: {}",
        "**Answer:** {}",
        "She has 3 hens and 12.5 acres. The final answer is {}",
        "#### {}",
        "3 + 4 = 8, no: 3 + 4 = {}",
        "The answer is 99. On reflection the answer is {}",
    ]
)


@given(NUMBERS, UNITS, CONTEXTS)
def test_anchor_reads_every_supported_number(number: Written, unit: str, context: str) -> None:
    written, value = number
    predicted = extract(PRIMARY["numeric"], context.format(written + unit))
    assert predicted is not None
    assert parse_number(predicted) == value


@given(NUMBERS, UNITS)
def test_grading_is_by_value(number: Written, unit: str) -> None:
    written, value = number
    assert numbers_equal(written + unit, str(value))
    assert not numbers_equal(written + unit, str(value + 1))


@given(NUMBERS)
def test_boxed_reads_every_supported_number(number: Written) -> None:
    written, value = number
    predicted = extract(get_extractor("numeric", "boxed"), f"so \\boxed{{{written}}}.")
    assert predicted is not None
    assert parse_number(predicted) == value


PIECES = [
    "answer",
    "Answer: ",
    "is ",
    "the ",
    "A",
    "B)",
    "(c)",
    "I ",
    "$",
    "####",
    " ",
    "=",
    "\\boxed{",
    "}",
    "\\frac{",
    "{",
]
NUMERIC_PIECES = [
    "1",
    "2,000",
    ".5",
    "-",
    "/",
    "e9",
    "10^",
    "½",
    "⁵",
    "%",
    "\u202f",
    "٣",
    "\n",
    "\0",
    "İ",
    "\ud800",
    "1e99999",
]
TEXTS = st.one_of(st.text(), st.lists(st.sampled_from(PIECES + NUMERIC_PIECES), max_size=30).map("".join))


@given(TEXTS, st.lists(TEXTS, min_size=2, max_size=10))
def test_no_extractor_raises(text: str, options: list[str]) -> None:
    for extractor in default_extractors("numeric"):
        predicted = extract(extractor, text)
        assert predicted is None or predicted != ""
        assert extractor.matches(predicted, "7") in (True, False)
    for extractor in default_extractors("choice"):
        letter = extract(extractor, text, tuple(options))
        assert letter is None or letter in "ABCDEFGHIJ"[: len(options)]


@given(TEXTS, TEXTS)
def test_no_grader_raises(prediction: str, gold: str) -> None:
    assert numbers_equal(prediction, gold) in (True, False)
    assert exact_match(prediction, gold) in (True, False)
    assert letters_equal(prediction, gold) in (True, False)


@given(TEXTS)
def test_what_anchor_reads_has_a_value(text: str) -> None:
    predicted = extract(PRIMARY["numeric"], text)
    assert predicted is None or parse_number(predicted) is not None


@given(st.sampled_from("ABCD"), st.sampled_from(["{}", "({})", "The answer is {}.", "I pick {}", "**{}**", "{}. 12"]))
def test_word_boundary_reads_a_named_letter(letter: str, context: str) -> None:
    assert extract(PRIMARY["choice"], context.format(letter), ("",) * 4) == letter
