from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from markov_cot.data.problem import Problem
from markov_cot.data.sampler import Shuffle, sample
from markov_cot.utils.errors import UserError

PROBLEMS = [Problem(str(i), f"q{i}", str(i), "numeric") for i in range(10)]


def anything(problem: Problem) -> bool:
    return True


def even(problem: Problem) -> bool:
    return int(problem.id) % 2 == 0


def ids(problems: list[Problem]) -> list[str]:
    return [p.id for p in problems]


@given(st.integers(0, 2**63 - 1), st.integers(0, 50), st.integers(1, 7))
def test_a_step_depends_on_the_seed_and_the_step_alone(seed: int, step: int, size: int) -> None:
    used, fresh = Shuffle(PROBLEMS, seed, even), Shuffle(PROBLEMS, seed, even)
    for earlier in range(step):
        used.batch(earlier, size)
    assert used.batch(step, size) == fresh.batch(step, size)


@given(st.integers(0, 1000), st.integers(1, 7))
def test_batches_continue_where_the_last_ended(seed: int, size: int) -> None:
    shuffle = Shuffle(PROBLEMS, seed, anything)
    batches = [p for step in range(20) for p in shuffle.batch(step, size)]
    assert batches == [Shuffle(PROBLEMS, seed, anything).batch(i, 1)[0] for i in range(20 * size)]


def test_each_epoch_is_another_permutation() -> None:
    epochs = [ids(Shuffle(PROBLEMS, 0, anything).batch(epoch, 10)) for epoch in range(3)]
    assert all(sorted(epoch) == sorted(ids(PROBLEMS)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3
    assert epochs[0] != ids(Shuffle(PROBLEMS, 1, anything).batch(0, 10))


def test_problems_that_do_not_fit_are_replaced_and_named() -> None:
    shuffle = Shuffle(PROBLEMS, 0, even)
    batch = shuffle.batch(0, 10)
    assert len(batch) == 10 and all(map(even, batch)) and {*ids(batch)} == {"0", "2", "4", "6", "8"}
    assert shuffle.too_long == {1, 3, 5, 7, 9}


def test_a_problem_is_measured_once() -> None:
    asked: list[str] = []

    def fits(problem: Problem) -> bool:
        asked.append(problem.id)
        return even(problem)

    shuffle = Shuffle(PROBLEMS, 0, fits)
    shuffle.batch(0, 30)
    assert all(asked.count(p.id) == 1 for p in PROBLEMS if not even(p))


def test_nothing_fits() -> None:
    with pytest.raises(
        UserError, match=r"10 problems in a row are longer than the model's context; lower rollout\.length"
    ):
        Shuffle(PROBLEMS, 0, lambda problem: False).batch(0, 1)


def test_sample_draws_without_replacement_from_those_that_fit() -> None:
    assert sorted(ids(sample(PROBLEMS, 5, 0, even))) == ["0", "2", "4", "6", "8"]
    assert len(sample(PROBLEMS, 99, 0, even)) == 5
    assert sample(PROBLEMS, 4, 0, anything) == sample(PROBLEMS, 4, 0, anything)
    assert sample(PROBLEMS, 4, 0, anything) == sample(PROBLEMS, 7, 0, anything)[:4]
    assert sample(PROBLEMS, 7, 0, anything) != sample(PROBLEMS, 7, 1, anything)
    assert sample(PROBLEMS, 0, 0, anything) == [] == sample([], 3, 0, anything)
