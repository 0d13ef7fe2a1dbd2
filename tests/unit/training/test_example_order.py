"""The order in which examples are learnt."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from markov_cot.training.example_order import ExampleOrder


@given(st.integers(1, 30), st.integers(0, 5), st.integers(1, 4), st.integers(1, 9), st.data())
def test_a_pass_has_every_example_once_and_hard_ones_as_often_as_asked(
    count: int, seed: int, repeats: int, size: int, data: st.DataObject
) -> None:
    hard = data.draw(st.sets(st.integers(0, count - 1)))
    order = ExampleOrder(count, seed, hard=hard, repeats=repeats)
    drawn = [number for step in range(len(order)) for number in order.batch(step, size)]
    for start in range(0, size * len(order), len(order)):
        of_pass = Counter(drawn[start : start + len(order)])
        assert of_pass == {number: repeats if number in hard else 1 for number in range(count)}


@given(st.integers(2, 20), st.integers(0, 5), st.data())
def test_a_step_is_a_function_of_its_number_alone(count: int, seed: int, data: st.DataObject) -> None:
    first, second = (ExampleOrder(count, seed) for _ in range(2))
    steps = data.draw(st.permutations(range(6)))
    assert {step: first.batch(step, 3) for step in steps} == {step: second.batch(step, 3) for step in range(6)}


def test_passes_differ_and_seeds_differ() -> None:
    order = ExampleOrder(50, 0)
    assert order.batch(0, 50) != order.batch(1, 50) != list(range(50))
    assert order.batch(0, 50) != ExampleOrder(50, 1).batch(0, 50)


def test_a_curriculum_goes_from_easy_to_hard_in_every_pass() -> None:
    order = ExampleOrder(4, 0, difficulty=[0.3, 2.0, 0.1, 1.0], hard=[1], repeats=2)
    assert len(order) == 5
    assert order.batch(0, 5) == order.batch(7, 5) == [2, 0, 3, 1, 1]


def test_equally_hard_examples_are_shuffled() -> None:
    order = ExampleOrder(40, 0, difficulty=[1.0] * 20 + [0.0] * 20)
    easy, hard = order.batch(0, 20), order.batch(1, 20)
    assert sorted(easy) == list(range(20, 40)) != easy and sorted(hard) == list(range(20)) != hard
