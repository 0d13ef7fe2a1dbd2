"""The algorithm family on the quickstart's task: held-out accuracy and critical alarms over seeds, at equal steps.

python benchmarks/algorithms.py --out FOLDER --steps 120 --seeds 0 1 2 --jobs 2
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path

VARIANTS = {
    "GRPO policy gradient (the quickstart)": "quickstart",
    "PPO": "quickstart-ppo",
    "policy gradient, normalised reward": "quickstart-policy-gradient",
    "expert iteration": "quickstart-expert",
    "EMA baseline": "quickstart-ema",
    "actor answers, no actor reward": "quickstart-no-actor-reward",
    "actor answers, actor reward w = 1": "quickstart-actor",
    "Non-Markovian": "quickstart-non-markovian",
}


def run(folder: Path, recipe: str, seed: int, steps: int) -> tuple[float, int]:
    """Trains once; returns the final held-out accuracy and the number of critical alarms."""
    name = f"{recipe}-{seed}"
    command = [sys.executable, "-m", "markov_cot", "train", recipe, "--seed", str(seed), "--steps", str(steps)]
    command += ["--run", name, "--set", "alarms.action=continue"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    runs = folder / "runs" / name
    summary = json.loads((runs / "summary.json").read_text())
    events = [json.loads(line) for line in (runs / "alarms.jsonl").read_text().splitlines()]
    return summary["trained"]["accuracy"], sum(event["level"] == "critical" for event in events)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--jobs", type=int, default=2)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    work = list(product(VARIANTS.values(), args.seeds))
    with ThreadPoolExecutor(args.jobs) as pool:
        results = dict(zip(work, pool.map(lambda w: run(args.out, *w, args.steps), work), strict=True))
    print(f"| algorithm | {' | '.join(f'seed {s}' for s in args.seeds)} | mean | critical alarms |")
    print("|" + "---|" * (len(args.seeds) + 3))
    for title, recipe in VARIANTS.items():
        accuracies = [results[recipe, seed][0] for seed in args.seeds]
        alarms = sum(results[recipe, seed][1] for seed in args.seeds)
        cells = " | ".join(f"{a:.3f}" for a in accuracies)
        print(f"| {title} | {cells} | {sum(accuracies) / len(accuracies):.3f} | {alarms} |")


if __name__ == "__main__":
    main()
