"""Signals that ask for an end: the first one lets a step finish, the second stops at once.

SIGINT and SIGTERM are a user's and a launcher's; SIGHUP is a closed terminal's; SIGUSR1, SIGUSR2 and SIGXCPU are what
batch systems send some time before the end.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from types import FrameType

from markov_cot.cli.launched import is_first, is_one_of_several, say_interrupted

INTERRUPTED = 130
SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU")
_PATIENCE = 2
"""Signals after which even a program that swallows the interruption ends."""
_SAME_REQUEST_SECONDS = 2.0
"""A closed terminal is reported by the shell and by the system, and what a launcher passes on, the terminal may have
sent already: within this time these are one request."""
LAUNCHERS_PATIENCE = 30.0
"""Seconds from SIGTERM to SIGKILL with torchrun and Slurm."""


class Stop:
    """What was asked for by signals so far."""

    def __init__(self, on_terminate: Callable[[], None] = lambda: None) -> None:
        """`on_terminate` is called when a SIGTERM asks to stop after the step."""
        self.asked = False
        """Whether to stop after the step."""
        self._on_terminate = on_terminate
        self._waits = False
        self._hard = 0
        self._asked_at = 0.0

    @contextlib.contextmanager
    def after_the_step(self) -> Iterator[None]:
        """Within it a first signal only sets `asked`; outside it nothing is worth waiting for."""
        self._waits = True
        try:
            yield
        finally:
            self._waits = False

    def take(self, number: int, _: FrameType | None) -> None:
        """The signals' handler."""
        if self._waits and not self.asked:
            self.asked, self._asked_at = True, time.monotonic()
            if is_first():
                _say(b"\nstopping after this step (once more to stop at once)\n")
            if number == signal.SIGTERM:
                self._on_terminate()
            return
        if self.asked and self._is_the_same_request(number):
            return
        self._hard += 1
        if self._hard >= _PATIENCE:
            os._exit(INTERRUPTED)
        raise KeyboardInterrupt

    def _is_the_same_request(self, number: int) -> bool:
        repeated = number == getattr(signal, "SIGHUP", None) or is_one_of_several()
        return repeated and time.monotonic() - self._asked_at < _SAME_REQUEST_SECONDS


@contextlib.contextmanager
def stop_on_signal(on_terminate: Callable[[], None] = lambda: None) -> Iterator[Stop]:
    """Within it the signals go to the `Stop` it yields. A SIGHUP that is ignored (nohup) stays ignored."""
    stop = Stop(on_terminate)
    numbers = [getattr(signal, name) for name in SIGNALS if hasattr(signal, name)]  # Windows has the first two
    ignored = [n for n in numbers if n == getattr(signal, "SIGHUP", None) and signal.getsignal(n) == signal.SIG_IGN]
    previous = {number: signal.signal(number, stop.take) for number in numbers if number not in ignored}
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def ending_at_once() -> Iterator[None]:
    """An interruption ends one of several processes without clean-up, in which it would wait for the others."""
    try:
        yield
    except KeyboardInterrupt:
        if not is_one_of_several():
            raise
        say_interrupted()
        os._exit(INTERRUPTED)


def _say(line: bytes) -> None:
    """Writes to the terminal; when that is gone, whatever is written later goes nowhere and raises nothing."""
    try:
        os.write(2, line)  # not print, which the signal may have interrupted in the middle of its own work
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in (sys.__stdout__, sys.__stderr__):
            if stream is not None:
                with contextlib.suppress(OSError, ValueError):
                    os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
