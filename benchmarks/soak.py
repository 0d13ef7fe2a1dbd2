"""Thousands of small steps with checkpoints: memory must not grow, and log and checkpoints must stay valid.

python benchmarks/soak.py --out FOLDER [--steps 5000] [--every 50] [--warm-up 1000]

P 1, G 4, L 8, with the baseline scored every step (the cache that could grow). Prints, as JSON, the resident memory's
slope in MB per 1,000 steps after the warm-up (least squares), and exits with 1 when it is 1 or more.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from markov_cot.checkpoints.checkpoint import list_steps
from markov_cot.checkpoints.manifest import read_manifest
from markov_cot.config.loading import build_config
from markov_cot.training.setup import open_session
from markov_cot.training.trainer import Trainer

LIMIT = 1.0
PAGE = os.sysconf("SC_PAGE_SIZE")


def resident_megabytes() -> float:
    """Memory of this process that is in use now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE / 1e6


def train(folder: Path, steps: int, every: int) -> list[tuple[int, float]]:
    """(step, MB) after every tenth step."""
    values: dict[str, Any] = {
        "steps": steps,
        "data": {"dataset": "arithmetic", "terms": [2, 3]},
        "rollout": {"problems": 1, "samples": 4, "length": 8},
        "reward": {"baseline_every": 1},
        "optim": {"lr": 1e-4},
        "validation": {"every": 500, "problems": 8, "final_problems": 8},
        "checkpoint": {"every": every, "runs_dir": str(folder / "runs"), "checkpoints_dir": str(folder / "ckpt")},
        "tracking": {"samples_every": 20},
        "alarms": {"action": "continue"},
    }
    trainer = Trainer(open_session(build_config(values, "soak"), "soak", "soak", resume=False))
    seen: list[tuple[int, float]] = []

    def watch(step: int, *_: object) -> None:
        if step % 10 == 0:
            seen.append((step, resident_megabytes()))

    trainer.run(watch)
    return seen


def check_files(folder: Path, steps: int) -> None:
    """Every step is in the log once, and every checkpoint is whole. Raises otherwise."""
    lines = (folder / "runs" / "soak" / "log.jsonl").read_text().splitlines()
    if [json.loads(line)["step"] for line in lines] != list(range(steps + 1)):
        raise ValueError("the log lacks steps, or has some twice")
    for checkpoint in list_steps(folder / "ckpt" / "soak"):
        read_manifest(checkpoint)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--every", type=int, default=50)
    parser.add_argument("--warm-up", type=int, default=1000)
    args = parser.parse_args()
    torch.set_num_threads(1)
    started = time.monotonic()
    seen = train(args.out, args.steps, args.every)
    seconds = time.monotonic() - started
    check_files(args.out, args.steps)
    steps, megabytes = np.array([s for s in seen if s[0] > args.warm_up]).T
    slope = float(np.polyfit(steps / 1000, megabytes, 1)[0])
    result = {
        "steps": args.steps,
        "seconds": round(seconds),
        "slope_mb_per_1000_steps": round(slope, 3),
        "mb_after_warm_up": round(float(megabytes[0]), 1),
        "mb_at_end": round(float(megabytes[-1]), 1),
        "curve": [s for s in seen if s[0] % 500 == 0],
    }
    print(json.dumps(result))
    sys.exit(slope >= LIMIT)


if __name__ == "__main__":
    main()
