"""Calling the user's own code within a step: whatever it does wrong is one line that names it and the step."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import Any

from markov_cot.utils.errors import UserError


class HookError(UserError):
    """The user's own code failed within a step. What was trained before the step is saved, and the run can resume."""


@contextlib.contextmanager
def hook(seam: str, name: str, step: int | None = None) -> Iterator[None]:
    """Turn whatever is raised within it into a `HookError`. `step` counts from 1."""
    where = f"{seam} {name}" + ("" if step is None else f", step {step}")
    try:
        yield
    except HookError:
        raise
    except Exception as error:  # whatever the user's code raises
        first = (str(error).strip().splitlines() or [""])[0]
        raise HookError(f"{where}: raised {type(error).__name__}: {first}; fix it") from error


def check_values(seam: str, name: str, step: int, values: Any, count: int) -> list[float]:
    """Return what a hook gave as floats. Raises `HookError` unless it is `count` finite numbers, one a CoT."""
    where = f"{seam} {name}, step {step}"
    try:
        given = values.tolist() if hasattr(values, "tolist") else list(values)
        numbers = [float(value) for value in given]
    except (TypeError, ValueError):
        raise HookError(f"{where}: returned {short(values)}, not a list of numbers; return one a CoT") from None
    if len(numbers) != count:
        raise HookError(f"{where}: returned {len(numbers)} values for {count} CoTs; return one a CoT")
    for i, number in enumerate(numbers):
        if not math.isfinite(number):
            raise HookError(f"{where}: value {i} is {number}; return finite numbers")
    return numbers


def short(value: Any) -> str:
    """Return what a message shows of a value."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."
