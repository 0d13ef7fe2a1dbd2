"""Processes that tests start, and their ports and children."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[1]


def free_port() -> str:
    """One that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def environment(**more: str) -> dict[str, str]:
    """For a process that tests start: this package, one thread."""
    return os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"} | more


def wait_until(reached: Callable[[], bool]) -> None:
    """Waits a minute at most."""
    end = time.monotonic() + 60
    while not reached():
        assert time.monotonic() < end
        time.sleep(0.05)


def process_of(launcher: int, *, rank: int) -> int:
    """The process of a rank that a launcher started."""
    children = map(int, Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split())
    return next(pid for pid in children if f"LOCAL_RANK={rank}".encode() in Path(f"/proc/{pid}/environ").read_bytes())
