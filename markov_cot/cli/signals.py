"""SIGINT and SIGTERM: the first one lets a step finish, the second stops at once."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from types import FrameType

from markov_cot.cli.launched import is_first

INTERRUPTED = 130
_PATIENCE = 2
"""Signals after which even a program that swallows the interruption ends."""


class Stop:
    """What was asked for by signals so far."""

    def __init__(self) -> None:
        self.asked = False
        """Whether to stop after the step."""
        self._waits = False
        self._hard = 0

    @contextlib.contextmanager
    def after_the_step(self) -> Iterator[None]:
        """Within it a first signal only sets `asked`; outside it nothing is worth waiting for."""
        self._waits = True
        try:
            yield
        finally:
            self._waits = False

    def take(self, _: int, __: FrameType | None) -> None:
        """The signals' handler."""
        if self._waits and not self.asked:
            self.asked = True
            # Not print, which the signal may have interrupted in the middle of its own work.
            if is_first():
                os.write(2, b"\nstopping after this step (once more to stop at once)\n")
            return
        self._hard += 1
        if self._hard >= _PATIENCE:
            os._exit(INTERRUPTED)
        raise KeyboardInterrupt


@contextlib.contextmanager
def stop_on_signal() -> Iterator[Stop]:
    """Within it SIGINT and SIGTERM go to the `Stop` it yields."""
    stop = Stop()
    previous = {number: signal.signal(number, stop.take) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
