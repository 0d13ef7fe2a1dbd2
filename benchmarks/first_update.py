"""How far apart sampling and training are in bfloat16, and what a step costs.

    python benchmarks/first_update.py --model FOLDER --dataset svamp --seeds 0 1 2

Prints a row for each kind of update: the largest ratio and the gap of log-probs at the run's first update (the largest
of all seeds), and median processor seconds of collecting and of updating over the steps after it. Those, unlike seconds
on the clock, hardly depend on what else runs; with one thread they are what an idle machine's clock would show.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from markov_cot.algorithms.losses import Weights
from markov_cot.cli.quiet import quiet_libraries
from markov_cot.config.loading import build_config
from markov_cot.training.setup import open_session
from markov_cot.training.trainer import Trainer

VARIANTS: dict[str, dict[str, Any]] = {
    "policy gradient": {"loss": "policy_gradient"},
    "PPO": {"loss": "ppo"},
    "PPO, 2 minibatches, 2 epochs": {"loss": "ppo", "minibatches": 2, "inner_epochs": 2},
}
FIRST = ("ppo/ratio_max", "rollout/logprob_gap", "rollout/importance_max", "rollout/importance_truncated")
"""Metrics of the first update; one that a version of this code does not know is left out."""


def measure(args: argparse.Namespace, algorithm: dict[str, Any], seed: int, folder: Path) -> dict[str, Any]:
    """One short run: metrics of its first update, and seconds of each later step's two halves."""
    values = {
        "seed": seed,
        "data": {"dataset": args.dataset, "data_dir": args.data_dir},
        "model": {"name": args.model, "dtype": args.dtype, "device": "cpu"},
        "rollout": {"problems": args.problems, "samples": args.samples, "length": args.length},
        "algorithm": algorithm,
        "checkpoint": {"runs_dir": str(folder / "runs"), "checkpoints_dir": str(folder / "checkpoints")},
    }
    session = open_session(build_config(values, "benchmark"), f"seed-{seed}", "benchmark", resume=False)
    made, weights = Trainer(session), Weights(kl=0.1, actor_reward=0.0)
    first: dict[str, float] = {}
    seconds: dict[str, list[float]] = {"collect": [], "update": []}
    for step in range(1 + args.steps):
        problems = session.shuffle.batch(step, args.problems)
        started = time.process_time()
        experience, made.state.progress.history, _ = made.method.collector.collect(
            problems, step, made.state.progress.history
        )
        collected = time.process_time()
        metrics = made.method.updater.update(experience, weights, args.lr, step)
        if step:
            seconds["collect"].append(collected - started)
            seconds["update"].append(time.process_time() - collected)
        else:
            first = {key: metrics[key] for key in FIRST if key in metrics}
    session.lock.release()
    return {"first": first, "seconds": seconds}


def row(name: str, runs: list[dict[str, Any]]) -> str:
    """A variant's line of the table."""
    cells = [f"{max(run['first'][key] for run in runs):.6g}" for key in FIRST if key in runs[0]["first"]]
    for half in ("collect", "update"):
        cells.append(f"{statistics.median(s for run in runs for s in run['seconds'][half]):.2f}")
    return f"| {name} | {' | '.join(cells)} |"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--dataset", default="svamp")
    parser.add_argument("--data-dir")
    parser.add_argument("--problems", type=int, default=3)
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--length", type=int, default=50)
    parser.add_argument("--steps", type=int, default=3, help="timed ones, after the first")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--only", choices=list(VARIANTS), nargs="+", default=list(VARIANTS))
    parser.add_argument("--lr", type=float, default=1e-4)
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


def main() -> None:
    args = arguments()
    torch.set_num_threads(args.threads)
    quiet_libraries()
    for name in args.only:
        with tempfile.TemporaryDirectory() as folder:
            runs = [measure(args, VARIANTS[name], seed, Path(folder)) for seed in args.seeds]
        print(row(name, runs), flush=True)


if __name__ == "__main__":
    main()
