"""Which problems a step trains on: a seeded shuffle of the training split, as a function of the step alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TypeVar

from markov_cot.data.problem import Problem
from markov_cot.utils.errors import UserError
from markov_cot.utils.rng import Stream, generator

MAX_SKIPPED_IN_A_ROW = 2000

Item = TypeVar("Item")


class Shuffle:
    """An endless shuffle of `problems`, a new permutation every epoch.

    Position i is a pure function of (seed, i), so a resumed run needs no saved data position. A problem for which
    `fits` is false is replaced by the next one that fits.
    """

    def __init__(self, problems: Sequence[Problem], seed: int, fits: Callable[[Problem], bool]) -> None:
        self._problems, self._fits = problems, fits
        self._permutation = lru_cache(maxsize=2)(
            lambda epoch: generator(seed, Stream.SHUFFLE, epoch).permutation(len(problems))
        )
        self.too_long: set[int] = set()
        """Numbers of the problems that were skipped so far. Not their ids, which a file may give twice."""

    def batch(self, step: int, size: int) -> list[Problem]:
        """The `size` problems of a step (counted from 0)."""
        return [self._at(position) for position in range(step * size, (step + 1) * size)]

    def _at(self, position: int) -> Problem:
        epoch, offset = divmod(position, len(self._problems))
        order = self._permutation(epoch)
        for i in range(min(len(order), MAX_SKIPPED_IN_A_ROW)):
            number = int(order[(offset + i) % len(order)])
            if number not in self.too_long:
                problem = self._problems[number]
                if self._fits(problem):
                    return problem
                self.too_long.add(number)
        tried = min(len(order), MAX_SKIPPED_IN_A_ROW)
        raise UserError(
            f"data: question + CoT + answer of {tried} problems in a row are longer than the model's "
            "context; lower rollout.length or use a model with a longer context"
        )


def sample(problems: Sequence[Item], count: int, seed: int, fits: Callable[[Item], bool]) -> list[Item]:
    """Up to `count` problems (or their numbers) drawn without replacement from those that fit: always the same ones."""
    chosen: list[Item] = []
    for index in generator(seed, Stream.EVALUATION, 0).permutation(len(problems)):
        if len(chosen) == count:
            break
        problem = problems[int(index)]
        if fits(problem):
            chosen.append(problem)
    return chosen
