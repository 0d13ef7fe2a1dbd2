from __future__ import annotations

import importlib.util

import pytest

from markov_cot.grading import symbolic
from markov_cot.grading.extractors import default_extractors, extract, get_extractor, grade
from markov_cot.utils.errors import UserError


def test_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"math-verify.*pip install '\.\[math-verify\]'"):
        get_extractor("numeric", "math-verify")


def test_defaults_do_not_depend_on_what_is_installed() -> None:
    assert "math-verify" not in [extractor.name for extractor in default_extractors("numeric")]


@pytest.mark.parametrize(
    ("text", "gold", "right"),
    [
        ("so \\boxed{\\frac{1}{2}}", "0.5", True),
        ("The final answer is $\\boxed{70{,}000}$", "70000", True),
        ("The answer is 18", "18", True),
        ("\\boxed{3 + 4}", "7", True),
        ("\\boxed{x = 2^{10}}", "1024", True),
        ("\\boxed{\\sqrt{16}}", "4", True),
        ("\\boxed{50\\%}", "50", True),
        ("\\boxed{1.1}", "1.1", True),
        ("\\boxed{\\sqrt{2}}", "2", False),
        ("\\boxed{10^{10^{10}}}", "2", False),
        ("\\boxed{9^{9^{9^{9}}}}", "2", False),
        ("\\boxed{0^{-1}}", "2", False),
        ("\\boxed{\\{1, 2\\}}", "2", False),
        ("no idea", "2", False),
        ("", "2", False),
        ("4" * 100_000, "2", False),
    ],
)
def test_values(text: str, gold: str, right: bool) -> None:
    pytest.importorskip("math_verify")
    extractor = get_extractor("numeric", "math-verify")
    assert extractor.matches(extract(extractor, text), gold) is right


@pytest.mark.parametrize(
    ("response", "gold", "right"),
    [
        ("The answer is 3.", "3\\pi", False),
        ("The answer is $3\\pi$.", "3\\pi", True),
        ("so \\boxed{\\frac{6\\pi}{2}}", "3\\pi", True),
        ("so \\boxed{x + 1}", "1 + x", True),
        ("so \\boxed{2x}", "3x", False),
        ("<think>\\boxed{3\\pi}</think> \\boxed{2\\pi}", "3\\pi", False),
        ("<think>\\boxed{3\\pi}", "3\\pi", False),
        ("so \\boxed{2\\sqrt{3}}", "$\\sqrt{12}$", True),
        ("so \\boxed{9^{9^{9^{9}}}}", "3\\pi", False),
        ("no idea", "3\\pi", False),
    ],
)
def test_expressions(response: str, gold: str, right: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("math_verify")
    monkeypatch.setattr(symbolic, "_SECONDS", 1)
    for name in ("anchor", "boxed", "math-verify"):
        if name != "boxed" or "boxed" in response:
            _, correct = grade(get_extractor("numeric", name), response, gold)
            assert correct is right, name


def test_what_is_read_beside_an_expression_is_an_expression() -> None:
    pytest.importorskip("math_verify")
    assert grade(get_extractor("numeric", "anchor"), "so \\boxed{3\\pi}", "3\\pi") == ("3\\pi", True)
    assert grade(get_extractor("numeric", "boxed"), "The answer is $3\\pi$", "3\\pi") == (None, False)
    assert grade(get_extractor("numeric", "simple"), "so \\boxed{3\\pi}", "3\\pi") == ("3", False)
