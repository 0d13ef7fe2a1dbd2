"""A step on a CUDA GPU with the configuration of Llama 3.1 8B, against TRL and against the GPU's own limit.

    python benchmarks/bench_gpu.py --scratch FOLDER --trl /path/to/environment

Random weights in bfloat16, P 1, G 12, prompt 150, L 100; a little under 17 GB in FOLDER, which both sides load from.
Prints seconds a step by phase, peak memory, and decode tokens a second as a share of what the memory's measured
bandwidth allows when each token's forward reads every weight once. Without `--trl` this trainer is measured alone.
Without a CUDA device: one line that says so, and exit code 2. `--size tiny --device cpu` rehearses it anywhere.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import roofline
import torch
import workload
from measure import DTYPES, Work, fail, positive
from random_llama import SIZES
from runner import OURS, TRL, interpreter, run

GIB = 2**30
PROBLEMS, SAMPLES, LENGTH, PROMPT = 1, 12, 100, 150
DTYPE = "bfloat16"
LIMIT_SECONDS = 480
COUNT = 60


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scratch", type=Path, required=True, help="folder for the model and the problems")
    parser.add_argument("--trl", help="virtual environment, or Python, with TRL")
    parser.add_argument("--size", choices=list(SIZES), default="8b")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--warmup", type=positive, default=1)
    parser.add_argument("--steps", type=positive, default=3)
    parser.add_argument("--json", type=Path, help="write the reports here, as JSON lines")
    return parser.parse_args(argv)


def bandwidth_share(report: dict[str, Any], model: roofline.Model, bandwidth: float) -> tuple[float, float]:
    """Decode tokens a second, and their share of the bandwidth limit. The rollout's time includes the prompt's."""
    work = report["work"]
    sequences = work["problems"] * work["samples"]
    rate = sequences * work["length"] / report["phases"]["rollouts (within collect)"]
    read = DTYPES[work["dtype"]].itemsize * (model.layer_weights + model.head_weights)
    return rate, rate / (sequences * bandwidth / read)


def describe(work: Work, ours: dict[str, Any], theirs: dict[str, Any] | None) -> str:
    """The figures, a line each."""
    device = torch.device(work.device)
    limits, bandwidth = roofline.roofline(work), roofline.measured_bandwidth(device)
    rate, share = bandwidth_share(ours, roofline.Model.read(work.model), bandwidth)
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    lines = [
        f"{name}, torch {torch.__version__}: P {work.problems}, G {work.samples}, L {work.length}, "
        f"prompt {PROMPT}, {work.dtype}, weights {ours['weights'] / GIB:.2f} GiB.",
        f"Ours: {ours['median']:.3f} s a step; "
        + ", ".join(f"{phase} {seconds:.3f} s" for phase, seconds in ours["phases"].items())
        + f"; peak memory {ours['peak_above_weights'] / GIB:.2f} GiB above the weights.",
        f"Decode: {rate:,.0f} tokens/s, {share:.0%} of the limit set by reading the weights at "
        f"{bandwidth / 1e9:,.0f} GB/s.",
        roofline.line(limits, work, ours["median"]),
    ]
    if theirs:
        lines.append(
            f"{theirs['side']}: {theirs['median']:.3f} s a step, {theirs['median'] / ours['median']:.2f} times ours; "
            f"peak memory {theirs['peak_above_weights'] / GIB:.2f} GiB above the weights."
        )
    else:
        lines.append("TRL: not measured; give its environment with --trl.")
    return "\n".join(lines)


def main() -> None:
    args = arguments()
    started = time.perf_counter()
    if args.device == "cuda" and not torch.cuda.is_available():
        fail("bench_gpu: torch finds no CUDA device on this machine, so there is nothing to measure; run it on a GPU")
    trl = interpreter(args.trl) if args.trl else None
    folder = args.scratch / args.size
    folder.mkdir(parents=True, exist_ok=True)
    workload.write(args.size, folder, PROMPT, COUNT, DTYPE, args.device)
    if args.device == "cuda":
        torch.cuda.empty_cache()
    work = Work(folder, PROBLEMS, SAMPLES, LENGTH, DTYPE, args.device)
    options = ["--work", str(folder), "--problems", str(PROBLEMS), "--samples", str(SAMPLES), "--length", str(LENGTH)]
    options += ["--dtype", DTYPE, "--device", args.device, "--warmup", str(args.warmup), "--steps", str(args.steps)]

    def left() -> float:
        return LIMIT_SECONDS - (time.perf_counter() - started)

    ours = run(sys.executable, OURS, options, left())
    theirs = run(trl, TRL, options, left()) if trl else None
    if args.json:
        args.json.write_text("".join(json.dumps(r) + "\n" for r in (ours, theirs) if r), encoding="utf-8")
    print(describe(work, ours, theirs))


if __name__ == "__main__":
    main()
