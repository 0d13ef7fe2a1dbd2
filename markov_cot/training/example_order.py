"""In which order written CoTs are learnt: as a function of the step alone, so that a resumed run needs no position."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from markov_cot.utils.rng import Stream, generator


class ExampleOrder:
    """Passes over `count` examples, each in a seeded order of its own; hard ones come several times in a pass."""

    def __init__(
        self,
        count: int,
        seed: int,
        *,
        hard: Collection[int] = (),
        repeats: int = 1,
        difficulty: Sequence[float] | None = None,
    ) -> None:
        """With a `difficulty`, one number an example, every pass is from the easiest to the hardest."""
        self._entries = np.array([*range(count), *(sorted(hard) * (repeats - 1))])
        self._seed, self._difficulty = seed, None if difficulty is None else np.asarray(difficulty)
        self._pass = lru_cache(maxsize=2)(self._ordered)

    def __len__(self) -> int:
        """Return how many examples a pass has, repeats included."""
        return len(self._entries)

    def batch(self, step: int, size: int) -> list[int]:
        """Return the numbers of a step's examples (steps count from 0)."""
        places = (divmod(position, len(self)) for position in range(step * size, (step + 1) * size))
        return [int(self._pass(number)[offset]) for number, offset in places]

    def _ordered(self, number: int) -> NDArray[np.int64]:
        shuffled: NDArray[np.int64] = generator(self._seed, Stream.SHUFFLE, number).permutation(self._entries)
        if self._difficulty is None:
            return shuffled
        return shuffled[self._difficulty[shuffled].argsort(kind="stable")]
