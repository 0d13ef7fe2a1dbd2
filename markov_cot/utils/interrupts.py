"""Interrupting a call from Python: Ctrl-C in a shell, the stop button of a notebook."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType


@contextlib.contextmanager
def stop_after_the_step() -> Iterator[Callable[[], bool]]:
    """Yield a function that says whether an interrupt has asked to stop; a second one raises `KeyboardInterrupt`.

    Outside the main thread, where Python allows no handlers, and in a program that has a handler of its own, nothing
    changes.
    """
    asked = False

    def take(_: int, __: FrameType | None) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        with contextlib.suppress(RuntimeError):  # the signal may have interrupted another print
            print("stopping after this step (once more to stop at once)", file=sys.stderr)

    in_main_thread = threading.current_thread() is threading.main_thread()
    if not in_main_thread or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield lambda: False
        return
    signal.signal(signal.SIGINT, take)
    try:
        yield lambda: asked
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
