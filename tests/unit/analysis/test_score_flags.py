"""Reported scores that cannot be what they are taken for; the rows are those of seed 001."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from markov_cot.analysis.score_flags import faults, implied_sizes, not_of
from markov_cot.analysis.score_tables import Reported


def percent(score: str, stderr: str | None = None, n: int | None = None) -> Reported:
    return Reported(float(score) / 100, 5e-5, None if stderr is None else float(stderr) / 100, 5e-5, n)


@pytest.mark.parametrize(("score", "k", "n"), [("26.50", 26, 100), ("2.74", 36, 1319), ("2.15", 28, 1319)])
def test_the_seeds_impossible_scores(score: str, k: int, n: int) -> None:
    near = not_of(percent(score), n)
    assert near is not None and near.startswith(f"{k}/{n:,} is ") and f"{k + 1}/{n:,} is " in near


@pytest.mark.parametrize(
    ("score", "stderr", "n"),
    [
        ("47.00", "5.02", 100),
        ("34.00", "4.76", 100),
        ("27.00", "4.46", 100),
        ("33.51", "1.30", 1319),
        ("3.71", "0.52", 1319),
        ("3.11", "0.48", 1319),
        ("2.81", "0.45", 1319),
        ("2.20", "0.40", 1319),
        ("45.23", "0.50", 10042),
        ("60.77", "0.49", 10042),
    ],
)
def test_the_seeds_possible_rows(score: str, stderr: str, n: int) -> None:
    assert not list(faults(percent(score, stderr, n)))
    assert not list(faults(percent(score, stderr)))


def test_without_n_a_score_is_held_against_the_n_that_its_error_implies() -> None:
    impossible = percent("26.50", "4.42")
    assert list(implied_sizes(impossible)) == [100]
    [reason] = faults(impossible)
    assert reason.startswith("26.50 % is no k/n at the n that its stderr implies, 100: ")
    assert not list(faults(percent("26.50"))) and not list(faults(percent("26.50", "0.00")))
    assert implied_sizes(percent("45.23", "0.10")) == range(0), "rounded too much to say"


def test_an_error_that_does_not_fit() -> None:
    [reason] = faults(percent("47.00", "2.51", 100))
    assert reason.startswith("a stderr of 2.51 % does not fit n = 100, where it is 5.02 %; it implies an n of ")
    assert not list(faults(percent("47.00", "4.99", 100))), "divided by n instead of n - 1"
    assert list(faults(Reported(1.2, 0.0))) == ["1.2 is no share"]
    exact = Reported(5 / 7, 5e-17, math.sqrt(5 / 7 * 2 / 7 / 6), 5e-17, 7)
    assert not list(faults(exact))


@given(st.integers(2, 3000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.integers(1, 5))
def test_no_true_score_is_flagged(case: tuple[int, int], digits: int) -> None:
    k, n = case
    share = k / n
    stderr = math.sqrt(share * (1 - share) / (n - 1))
    half = 0.5 * 10**-digits
    for size in (n, None):
        assert not list(faults(Reported(round(share, digits), half, round(stderr, digits), half, size)))
