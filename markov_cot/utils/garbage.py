"""Python's garbage collector, which looks through everything that libraries define while they are imported."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator

OBJECTS = 10_000
"""Between two collections; Python's own default is 700."""


@contextlib.contextmanager
def collecting_rarely() -> Iterator[None]:
    """Within it Python looks for reference cycles less often: an import of torch and transformers makes no garbage.

    Looking for it as often as by default takes a sixth of the time until a command has started. A training step leaves
    a few hundred objects in cycles and no tensor among them, so that memory is not held longer for it.
    """
    first, *others = before = gc.get_threshold()
    # 0 stands for never, as the program may have chosen.
    gc.set_threshold(max(first, OBJECTS) if first else 0, *others)
    try:
        yield
    finally:
        gc.set_threshold(*before)
