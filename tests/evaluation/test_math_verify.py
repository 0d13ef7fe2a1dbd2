from __future__ import annotations

import importlib.util

import pytest

from markov_cot.errors import UserError
from markov_cot.evaluation.extractors import default_extractors, extract, get_extractor


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
