from __future__ import annotations

import string
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from markov_cot.analysis.perturbations import FAMILIES, REMOVALS, SEVERITIES, Draws, draws, perturb
from markov_cot.analysis.units import Characters

POOL = Characters(None).pool  # type: ignore[arg-type] - the pools need no tokenizer
TEXTS = st.text(st.sampled_from(string.ascii_letters + string.digits + " .,=+\né"), max_size=60)


def drawn(*ranks: float) -> Draws:
    return Draws(np.array(ranks), np.full(len(ranks), 0.999))


@pytest.mark.parametrize(
    ("family", "severity", "changed"),
    [
        # Eleven units: floor(0.25 * 11) = 2 go, those of the lowest ranks, c and h; floor(0.75 * 11) = 8 are kept.
        ("delete", 25, "abdefg12 "),
        ("truncate_front", 25, "defg12 h"),
        ("truncate_back", 25, "abcdefg1"),
        ("truncate_back", 80, "ab"),
        ("delete", 100, ""),
        ("truncate_front", 100, ""),
        # 0.999 draws the last of a pool: 9 of the 62, and of the ten digits.
        ("char_replace", 35, "ab9d9fg12 9"),
        ("digit_replace", 100, "abcdefg99 h"),
        ("digit_replace", 35, "abcdefg12 h"),
    ],
)
def test_by_hand(family: str, severity: int, changed: str) -> None:
    ranks = (0.9, 0.8, 0.1, 0.7, 0.3, 0.6, 0.5, 0.4, 0.95, 0.99, 0.2)
    found = perturb(family, "abcdefg12 h", severity, drawn(*ranks), POOL)
    assert "".join(found) == changed


def test_lengths_are_exact_where_floats_are_not() -> None:
    # (1 - 0.8) * 10 is 1.9999999999999996.
    assert perturb("truncate_back", "0123456789", 80, drawn(*[0.5] * 10), POOL) == ["0", "1"]
    assert len(perturb("delete", "0123456789", 60, drawn(*[0.5] * 10), POOL)) == 4


@given(TEXTS, st.sampled_from(FAMILIES), st.integers(0, 1000))
def test_a_higher_severity_changes_all_that_a_lower_one_does(text: str, family: str, item: int) -> None:
    made = draws(7, item, family, len(text))
    steps = [perturb(family, text, severity, made, POOL) for severity in (0, *SEVERITIES)]
    assert steps[0] == list(text), "severity 0 changes nothing"
    if family in REMOVALS:
        assert steps[-1] == []
        for more, fewer in pairwise(steps):
            assert is_subsequence(fewer, more)
    else:
        for lower, higher in pairwise(steps):
            moved = [(a, b) for a, b, c in zip(lower, higher, text, strict=True) if a != c and a != b]
            assert not moved, "what was replaced stays replaced by the same"


@given(TEXTS, st.integers(0, 50))
def test_only_what_a_family_is_about_changes(text: str, item: int) -> None:
    for family, kept in (("char_replace", str.isalnum), ("digit_replace", str.isdigit)):
        changed = perturb(family, text, 100, draws(0, item, family, len(text)), POOL)
        for before, after in zip(text, changed, strict=True):
            assert before == after or (kept(before) and before.isascii() and kept(after) and after.isascii())


def test_draws_are_the_items_and_the_familys_own() -> None:
    first = draws(0, 3, "delete", 5)
    assert np.array_equal(first.rank_n, draws(0, 3, "delete", 5).rank_n)
    for other in (draws(1, 3, "delete", 5), draws(0, 4, "delete", 5), draws(0, 3, "char_replace", 5)):
        assert not np.array_equal(first.rank_n, other.rank_n)


def test_shares_replaced_are_those_asked_for() -> None:
    text = "7" * 20_000
    changed = perturb("digit_replace", text, 40, draws(0, 0, "digit_replace", len(text)), POOL)
    # A digit may become itself: 0.4 * 0.9. Three standard errors of 20,000 draws are 0.010.
    assert sum(a != "7" for a in changed) / len(text) == pytest.approx(0.36, abs=0.011)


def is_subsequence(fewer: list[str], more: list[str]) -> bool:
    rest = iter(more)
    return all(unit in rest for unit in fewer)
