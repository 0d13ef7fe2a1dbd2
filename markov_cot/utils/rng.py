"""Counter-based random numbers: a function of what they are for, not of what was drawn before.

So a run that is resumed, re-tried or cut up differently over processes draws the same numbers, and no generator state
is saved.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np


class Stream(IntEnum):
    """What numbers are drawn for; streams of one seed never overlap."""

    SAMPLING = 0
    SHUFFLE = 1
    EVALUATION = 2
    MINIBATCHES = 3
    PERTURBATION = 4
    SWEEP = 5


def generator(seed: int, stream: Stream, index: int, attempt: int = 0) -> np.random.Generator:
    """A fresh generator for (seed, stream, index, attempt), such as step `index` of sampling (Philox, arXiv SC'11)."""
    bits = np.random.Philox(key=np.array([seed, stream], dtype=np.uint64), counter=[0, 0, attempt, index])
    return np.random.Generator(bits)
