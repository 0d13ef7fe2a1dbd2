"""Values as JSON has them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


def finite_or_null(value: Any) -> Any:
    """Return a value with None for the numbers that JSON has none for, tuples as lists, and keys as texts.

    >>> finite_or_null({1: (float("nan"), 0.5)})
    {'1': [None, 0.5]}
    """
    if isinstance(value, Mapping):
        return {str(key): finite_or_null(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [finite_or_null(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
