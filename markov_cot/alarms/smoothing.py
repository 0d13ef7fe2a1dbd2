"""Running statistics of a metric. All they remember is numbers in a flat mapping, so that they can be saved as JSON."""

from __future__ import annotations

from collections.abc import MutableMapping

Memory = MutableMapping[str, float]

START_ROWS = 3
WARM_UP = 10
"""Rows before a running statistic is worth comparing with."""
NOISE_DECAY = 0.98
REWARD_DECAY = 0.9
"""Of the moving average that stands for the reward in every alarm that looks at it."""
SMALLEST_NOISE = 0.1
"""Standard deviation below which noise is not believed to be."""
LARGEST_JUMP = 5.0
"""Standard deviations at which a row's change is cut, so that a collapse does not pass for noise."""


def count(memory: Memory, name: str) -> int:
    """How often this was called before under `name`."""
    key = name + ".rows"
    rows = int(memory.get(key, 0))
    memory[key] = rows + 1
    return rows


def smooth(memory: Memory, name: str, value: float, decay: float) -> float:
    """Exponential moving average, corrected for its start: the first value counts in full (as in Adam)."""
    total = memory[name + ".sum"] = decay * memory.get(name + ".sum", 0.0) + (1 - decay) * value
    weight = memory[name + ".weight"] = decay * memory.get(name + ".weight", 0.0) + (1 - decay)
    return total / weight


def start(memory: Memory, name: str, value: float, rows: int = START_ROWS) -> float:
    """Mean of the first `rows` values."""
    taken = memory.get(name + ".start_rows", 0)
    mean = memory.get(name + ".start", 0.0)
    if taken < rows:
        mean += (value - mean) / (taken + 1)
        memory[name + ".start"], memory[name + ".start_rows"] = mean, taken + 1
    return mean


def noise(memory: Memory, name: str, value: float) -> float:
    """Standard deviation from row to row, which a trend hardly touches: half the mean square of successive changes."""
    last = memory.get(name + ".last")
    memory[name + ".last"] = value
    if last is None:
        return 0.0
    square = (value - last) ** 2 / 2
    changes = count(memory, name + ".change")
    variance = memory.get(name + ".variance", 0.0)
    if changes >= WARM_UP:
        square = min(square, max(variance, SMALLEST_NOISE**2) * LARGEST_JUMP**2)
    variance += (square - variance) * max(1 - NOISE_DECAY, 1 / (changes + 1))
    memory[name + ".variance"] = variance
    return float(variance**0.5)


def smoothed_error(deviation: float, decay: float) -> float:
    """Standard error of an exponential moving average of independent values of this standard deviation."""
    return deviation * float(((1 - decay) / (1 + decay)) ** 0.5)
