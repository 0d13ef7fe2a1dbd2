"""A process that waits for others, for test_signals.py: python -m tests.waiting_cases meeting|exchange."""

from __future__ import annotations

import functools
import sys
import time

import torch.distributed

from markov_cot.cli.signals import ending_at_once, stop_on_signal
from markov_cot.distributed.process_group import PATIENCE, join

SECONDS = 3.0
"""That an exchange may take after a SIGTERM."""


def say(line: str) -> None:
    """Tells the test how far this process is."""
    print(line, flush=True)


def main(where: str) -> None:
    """Waits where it is asked to, until a signal ends it."""
    with ending_at_once(), stop_on_signal(functools.partial(PATIENCE.limit, SECONDS)) as stop:
        say("starting")
        processes = join(cpu=True)
        if processes.rank == 1:
            say("silent")
            time.sleep(600)
        with stop.after_the_step():
            say("waiting")
            processes.collect(where)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(sys.argv[1])
