"""From a sweep's file to the settings of each of its cells, and what a cell is called."""

from __future__ import annotations

import itertools
import math
import re
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

from markov_cot.config.grid import SEED, Grid, Random, Range
from markov_cot.utils.rng import Stream, generator

DIGITS = 4
"""Significant ones of a drawn number, so that what is run is what its name says."""
LONGEST_VALUE, LONGEST_NAME = 24, 120
"""Characters of a value in a cell's name, and of the name."""
_NUMBER = re.compile(r"(\d+)-")


def cell_settings(grid: Grid) -> list[dict[str, Any]]:
    """Return the settings of each cell by key, those that all share included.

    All combinations come with the first seed before any comes with the second.
    """
    seeds = [{}] if grid.seeds is None else [{SEED: seed} for seed in grid.seeds]
    return [{**grid.settings, **cell, **seed} for seed in seeds for cell in _combinations(grid)]


def _combinations(grid: Grid) -> list[dict[str, Any]]:
    if grid.random is not None:
        return [draw(grid.random, index) for index in range(grid.random.n)]
    if grid.list is not None:
        return list(grid.list)
    values = grid.grid or {}
    return [dict(zip(values, chosen, strict=True)) for chosen in itertools.product(*values.values())]


def draw(random: Random, index: int) -> dict[str, Any]:
    """Return the settings of one draw, which depend neither on how many there are nor on the other settings."""
    found = {}
    for key, given in random.ranges.items():
        uniform = generator(random.seed, Stream.SWEEP, index, zlib.crc32(key.encode())).random()
        found[key] = _at(given, float(uniform))
    return found


def _at(given: Range, uniform: float) -> Any:
    """The value at a quantile."""
    if given.choice is not None:
        return given.choice[int(uniform * len(given.choice))]
    if given.integer is not None:
        first, last = given.integer
        return first + int(uniform * (last - first + 1))
    if given.uniform is not None:
        low, high = given.uniform
        return _rounded(low + uniform * (high - low), low, high)
    assert given.log_uniform is not None
    low, high = given.log_uniform
    return _rounded(low * math.exp(uniform * math.log(high / low)), low, high)


def _rounded(value: float, low: float, high: float) -> float:
    return min(max(float(f"{value:.{DIGITS}g}"), low), high)


def cell_name(number: int, settings: Mapping[str, Any], seed: int | None) -> str:
    """Return the name of a cell, which begins with its number and tells what varies.

    >>> cell_name(3, {"optim.lr": 1e-5, "lora.rank": 4}, 0)
    '003-lr1e-5-rank4-seed0'
    """
    last = [key.rpartition(".")[2] for key in settings]
    words = [
        (key.replace(".", "_") if last.count(short) > 1 else short) + _text(value)
        for (key, value), short in zip(settings.items(), last, strict=True)
    ]
    words += [] if seed is None else [f"{SEED}{seed}"]
    return "-".join([f"{number:03d}", *words])[:LONGEST_NAME].rstrip("-.")


def number_of(name: str) -> int:
    """Return the number that a cell's name begins with; 0 for any other name."""
    found = _NUMBER.match(f"{name}-")
    return int(found[1]) if found else 0


def _text(value: Any) -> str:
    """A value in characters that no shell and no file system minds."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        text = "_".join(map(_text, value))
    elif isinstance(value, float):
        text = re.sub(r"e([-+])0+", r"e\1", f"{value:g}").replace("e+", "e")
    elif isinstance(value, bool) or value is None:
        text = str(value).lower()
    else:
        text = str(value).rpartition("/")[2]
    return re.sub(r"[^\w.+-]+", "_", text, flags=re.ASCII)[:LONGEST_VALUE]
