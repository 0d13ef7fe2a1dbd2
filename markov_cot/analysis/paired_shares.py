"""Two shares of right answers to the same items: an interval for their difference, and what could have been detected.

Of n items, `fixed` were wrong before and right after, `broken` right before and wrong after. Differences are after less
before, in [-1, 1].
"""

from __future__ import annotations

import math
from collections.abc import Callable

from markov_cot.evaluation.statistics import Z_80, Z_95

_HALVINGS = 60
"""Of an interval of width 2: more than a float can tell apart."""


def tango_interval(fixed: int, broken: int, n: int) -> tuple[float, float]:
    """Return the 95 % score interval of the difference (fixed - broken) / n.

    The differences D that a score test does not reject: |fixed - broken - n D| <= 1.96 sqrt(n (2 q + D (1 - D))),
    with q the share of broken items that is most likely if D is true (Tango 1998, Statistics in Medicine 17:891).
    Unlike the usual interval it is not empty where nothing changed: there it is +- 1.96^2 / (n + 1.96^2).

    >>> [round(x, 4) for x in tango_interval(0, 0, 100)]
    [-0.037, 0.037]
    """
    if min(fixed, broken) < 0 or fixed + broken > n or n == 0:
        raise ValueError(f"{fixed} fixed and {broken} broken of {n} items is not possible")
    found = (fixed - broken) / n
    low = -1.0 if broken == n else _crossing(lambda d: score(fixed, broken, n, d) > Z_95, -1.0, found)
    high = 1.0 if fixed == n else _crossing(lambda d: score(fixed, broken, n, d) >= -Z_95, found, 1.0)
    return low, high


def score(fixed: int, broken: int, n: int, difference: float) -> float:
    """Return Tango's statistic of one difference: standard normal where that is the true one, and falling in it."""
    d = difference
    a, b, c = 2 * n, (2 * n - fixed + broken) * d - fixed - broken, -broken * d * (1 - d)
    # The likelihood's maximum over q: the larger root of a q^2 + b q + c.
    q = (math.sqrt(max(0.0, b * b - 4 * a * c)) - b) / (2 * a)
    distance, variance = fixed - broken - n * d, n * (2 * q + d * (1 - d))
    if distance == 0:
        return 0.0
    return math.copysign(math.inf, distance) if variance <= 0 else distance / math.sqrt(variance)


def detectable_difference(fixed: int, broken: int, n: int) -> float | None:
    """Return the difference that McNemar's test at 5 % finds with a probability of 80 %, items changing as often.

    The d of sqrt(n) d = z_0.975 sqrt(c) + z_0.8 sqrt(c - d^2), with c the share of items that changed (Connor 1987,
    Biometrics 43:207). None where none changed, and where even c, all changes to one side, would be missed.

    >>> round(detectable_difference(12, 18, 1319), 4)
    0.0116
    """
    changed = (fixed + broken) / n
    room = n - Z_95**2 + Z_80**2
    if not changed or room < 0:
        return None
    found = math.sqrt(changed) * (Z_95 * math.sqrt(n) + Z_80 * math.sqrt(room)) / (n + Z_80**2)
    return found if found <= changed else None


def _crossing(is_left: Callable[[float], bool], left: float, right: float) -> float:
    """Where `is_left` turns from true to false."""
    for _ in range(_HALVINGS):
        middle = (left + right) / 2
        left, right = (middle, right) if is_left(middle) else (left, middle)
    return (left + right) / 2
