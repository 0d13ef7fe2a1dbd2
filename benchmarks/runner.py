"""Runs a measuring script in a process of its own, in a given environment, and reads its report."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from measure import fail

HERE = Path(__file__).parent
OURS, TRL = HERE / "bench_step.py", HERE / "bench_trl.py"
PATHS, EVAL = HERE / "decode_paths.py", HERE / "bench_eval.py"
QUIET = {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_VERBOSITY": "error",
}
LINES_SHOWN = 5
BUSY = 0.5
"""Load average above which a measurement says more about the other processes."""


def run(python: str, script: Path, options: Sequence[str], timeout: float | None = None) -> dict[str, Any]:
    """The report of `script`, which is the last line it prints; ends the program with code 2 where it failed.

    `python` runs with this project's folder at the front of its path, so that the checkout is what is measured.
    """
    try:
        done = subprocess.run(
            [python, str(script), *options],
            capture_output=True,
            text=True,
            timeout=timeout,
            env=environment() if script != TRL else os.environ | QUIET,
        )
    except subprocess.TimeoutExpired:
        fail(f"{script.name} with {python}: took more than {timeout:.0f} s; use fewer steps")
    if done.returncode:
        tail = "\n".join(done.stderr.strip().splitlines()[-LINES_SHOWN:])
        fail(f"{script.name} with {python}: failed with code {done.returncode}\n{tail}")
    report: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return report


def environment() -> dict[str, str]:
    """Of a process that runs this checkout."""
    return os.environ | QUIET | {"PYTHONPATH": str(HERE.parent)}


def work_options(args: argparse.Namespace) -> list[str]:
    """The options of `measure.work_arguments`, as another process is given them."""
    names = ("work", "problems", "samples", "length", "dtype", "device", "warmup", "steps")
    return [part for name in names for part in (f"--{name}", str(getattr(args, name)))]


def interpreter(path: str) -> str:
    """A Python's path, or the folder of its virtual environment; ends the program with code 2 where there is none."""
    candidate = Path(path, "bin", "python") if Path(path).is_dir() else Path(path)
    found = shutil.which(str(candidate))
    if not found:
        fail(f"{path}: is neither a Python nor a virtual environment's folder")
    return found


def warn_if_busy() -> None:
    """Says so when other processes are running: their load goes into every figure."""
    load = os.getloadavg()[0]
    if load > BUSY:
        print(
            f"warning: load average {load:.1f} before the start; other processes will disturb the figures",
            file=sys.stderr,
        )
