"""Which of the processes that a launcher started this one is, as far as the terminal is concerned."""

from __future__ import annotations

import sys

from markov_cot.distributed.launch import Launch, read_launch
from markov_cot.utils.errors import UserError


def is_first() -> bool:
    """Whether this is the run's first process, which shows its progress and its result."""
    return _launch().rank == 0


def is_one_of_several() -> bool:
    """Whether a launcher started others beside this one."""
    return _launch().count > 1


def speaks_for_machine(*, after_loss: bool = False) -> bool:
    """Whether this process says what went wrong: the first of its machine.

    `after_loss` of another process the second one too, since that may have been the first.
    """
    return (_launch().local_rank or 0) <= int(after_loss)


def say_interrupted() -> None:
    """The line that a command ends with when it stops at once."""
    if speaks_for_machine():
        print("markov-cot: interrupted", file=sys.stderr, flush=True)


def _launch() -> Launch:
    """A process that cannot tell says all it has to say."""
    try:
        return read_launch()
    except UserError:
        return Launch()
