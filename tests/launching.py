"""Processes that tests start, and their ports and children."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


def free_port() -> str:
    """One that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def environment(**more: str) -> dict[str, str]:
    """For a process that tests start: this package, one thread."""
    return os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"} | more


def run_two(module: str, folder: Path, cases: Iterable[str], *, timeout: float) -> list[dict[str, Any]]:
    """Call the `main` of a module in two processes of one job. Returns what each wrote to rank<N>.json."""
    job = subprocess.Popen(
        [sys.executable, "-m", "tests.two_ranks", free_port(), module, str(folder), *cases],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
        start_new_session=True,
    )
    try:
        errors = job.communicate(timeout=timeout)[1]
    finally:
        with suppress(ProcessLookupError):
            os.killpg(job.pid, signal.SIGKILL)
    assert job.returncode == 0, errors
    return [json.loads((folder / f"rank{rank}.json").read_text()) for rank in range(2)]


def wait_until(reached: Callable[[], bool], *, seconds: float = 60) -> None:
    """Waits a minute at most, unless it is given longer."""
    end = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < end
        time.sleep(0.05)


def process_children(parent: int) -> list[int]:
    """The processes that one has started and that run."""
    return list(map(int, Path(f"/proc/{parent}/task/{parent}/children").read_text().split()))


def process_of(launcher: int, *, rank: int) -> int:
    """The process of a rank that a launcher started."""
    children = process_children(launcher)
    return next(pid for pid in children if f"LOCAL_RANK={rank}".encode() in Path(f"/proc/{pid}/environ").read_bytes())
