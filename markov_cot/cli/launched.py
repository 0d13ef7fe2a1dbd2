"""Which of the processes that a launcher started this one is, as far as the terminal is concerned."""

from __future__ import annotations

import os


def is_first() -> bool:
    """Whether this is the run's first process, which shows its progress and its result."""
    return os.environ.get("RANK", "0") == "0"


def speaks_for_machine(*, after_loss: bool = False) -> bool:
    """Whether this process says what went wrong: the first of its machine.

    `after_loss` of another process the second one too, since that may have been the first.
    """
    return int(os.environ.get("LOCAL_RANK", "0")) <= int(after_loss)
