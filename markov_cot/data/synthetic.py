"""Problems this project makes itself: sums, word problems and multiple choice.

Every problem is a pure function of (seed, split, index), and a problem's split is decided by a hash of its question.
So the three splits never share a question whatever seed made them, and the bundled base model, which is pre-trained
on the training split only, has never seen a validation or test question either.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from random import Random
from typing import overload

from markov_cot.data.problem import Problem
from markov_cot.grading.kinds import LABELS

HASH_BUCKETS = 20
VALIDATION_BUCKET, TEST_BUCKET = 0, 1
MAX_DRAWS = 10_000

Generator = Callable[[Random], Problem]


def split_of(problem: Problem) -> str:
    """Split a generated problem belongs to: 1/20 validation, 1/20 test, the rest train."""
    bucket = zlib.crc32((problem.question + "\n".join(problem.choices)).encode()) % HASH_BUCKETS
    return {VALIDATION_BUCKET: "validation", TEST_BUCKET: "test"}.get(bucket, "train")


class Generated(Sequence[Problem]):
    """`size` problems of one split, made when asked for: item i depends on (seed, split, i) alone."""

    def __init__(self, generator: Generator, split: str, size: int, seed: int = 0) -> None:
        self._generator, self._split, self._size, self._seed = generator, split, size, seed

    def __len__(self) -> int:
        return self._size

    @overload
    def __getitem__(self, index: int) -> Problem: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Problem]: ...
    def __getitem__(self, index: int | slice) -> Problem | Sequence[Problem]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(self._size))]
        if not 0 <= index < self._size:
            raise IndexError(index)
        rng = Random(f"{self._seed}/{self._split}/{index}")
        for _ in range(MAX_DRAWS):
            problem = self._generator(rng)
            if split_of(problem) == self._split:
                return replace(problem, id=f"{self._split}-{index}")
        raise ValueError(f"the generator makes no problem of the {self._split} split; widen its range of terms")

    def __iter__(self) -> Iterator[Problem]:
        return (self[i] for i in range(self._size))


def arithmetic(rng: Random, *, terms: tuple[int, int] = (15, 15), high: int = 99, negative: bool = False) -> Problem:
    """A sum of `terms` (fewest, most) numbers of [1, high]; with `negative`, each later term may be subtracted."""
    numbers = [rng.randint(1, high) for _ in range(rng.randint(*terms))]
    signs = [1] + [rng.choice((1, -1)) if negative else 1 for _ in numbers[1:]]
    signed = [s * n for s, n in zip(signs, numbers, strict=True)]
    expression = str(numbers[0]) + "".join(f"{n:+d}" for n in signed[1:])
    return _numeric(f"What is {expression}?", signed)


def words(rng: Random) -> Problem:
    """A story of two to four amounts that are gained and lost, never below nothing."""
    name, thing = rng.choice(NAMES), rng.choice(THINGS)
    total = rng.randint(5, 99)
    amounts = [total]
    story = [rng.choice((f"{name} has {total} {thing}.", f"There are {total} {thing} in {name}'s box."))]
    for _ in range(rng.randint(1, 3)):
        losing = total > 4 and rng.random() < 0.5
        amount = rng.randint(1, total - 1) if losing else rng.randint(1, 99)
        story.append(rng.choice(LOSSES if losing else GAINS).format(name=name, n=amount))
        amounts.append(-amount if losing else amount)
        total += amounts[-1]
    story.append(rng.choice((f"How many {thing} does {name} have now?", f"How many {thing} are there now?")))
    return _numeric(" ".join(story), amounts)


def choices(rng: Random) -> Problem:
    """Which option is the sum, or the largest (or smallest) number? Three to five options, one right."""
    count = rng.randint(3, 5)
    if rng.random() < 0.6:
        numbers = [rng.randint(1, 99) for _ in range(rng.randint(2, 3))]
        right = sum(numbers)
        wrong = {right + d for d in (-20, -11, -10, -9, -2, -1, 1, 2, 9, 10, 11, 20) if right + d > 0}
        options = [right, *rng.sample(sorted(wrong), count - 1)]
        question, finding = f"What is {'+'.join(map(str, numbers))}?", "\n".join(_steps(numbers))
    else:
        options = rng.sample(range(1, 100), count)
        word, pick = rng.choice((("largest", max), ("smallest", min)))
        right = pick(options)
        question, finding = f"Which number is the {word}?", f"The {word} is {right}"
    rng.shuffle(options)
    letter = LABELS[options.index(right)]
    texts = tuple(map(str, options))
    return Problem("", question, letter, "choice", texts, rationale=f"{finding}\nSo {letter}.")


def _numeric(question: str, signed: Sequence[int]) -> Problem:
    answer = str(sum(signed))
    rationale = "\n".join([*_steps(signed), f"So {answer}."])
    return Problem("", question, answer, "numeric", rationale=rationale)


def _steps(signed: Sequence[int]) -> list[str]:
    """One line for each partial sum: ["12+35=47", "47-9=38"]."""
    lines, total = [], signed[0]
    for term in signed[1:]:
        lines.append(f"{total}{term:+d}={total + term}")
        total += term
    return lines


NAMES = ("Ada", "Ben", "Cleo", "Dan", "Eve", "Finn", "Gus", "Hana", "Ivan", "Jo", "Kim", "Leo", "Mia", "Ned", "Tom")
THINGS = ("apples", "books", "coins", "shells", "stamps", "cards", "pens", "eggs", "nuts", "stones", "keys", "beads")
GAINS = ("{name} finds {n} more.", "{name} buys {n} more.", "A friend brings {n} more.", "Then {n} are added.")
LOSSES = ("{name} loses {n}.", "{name} gives away {n}.", "{name} sells {n}.", "Then {n} are taken away.")
