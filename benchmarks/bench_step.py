"""Seconds and memory of this trainer's step, as one JSON line on stdout.

    python benchmarks/bench_step.py --work FOLDER --problems 4 --samples 12 --length 64

A step is `Trainer.step`: CoTs, their rewards, advantages, reference log-probs, loss, gradient, clipping, AdamW and the
metrics; no writing of logs, alarms or checkpoints. The baseline CoT is for reporting only in group training, and the
timed steps are without it; with `--baseline` every one computes it, on questions not seen before, together with the
leak check that belongs to the same steps. Peak memory is above what is resident once model and adapter are loaded.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from measure import (
    GRAD_CLIP,
    KL_WEIGHT,
    LEARNING_RATE,
    LORA,
    Memory,
    Work,
    fail,
    report,
    synchronize,
    touch,
    weight_bytes,
    work_arguments,
    work_of,
)

from markov_cot.config.loading import build_config
from markov_cot.config.schema import Config
from markov_cot.tracking.multi import MultiTracker
from markov_cot.training.setup import open_session
from markov_cot.training.trainer import Trainer
from markov_cot.utils.errors import UserError

NEVER = 10**9
"""As an interval of steps: only step 0, which is a warm-up step, is due."""
SIDE = "markov-cot"


def config(work: Work, folder: Path, *, baseline: bool, kl: str, overrides: dict[str, Any]) -> Config:
    """The recipe that does `work` and writes to `folder`; `overrides` go into any group."""
    values: dict[str, Any] = {
        "steps": NEVER,
        "data": {"dataset": str(work.problem_file)},
        "model": {"name": str(work.model), "dtype": work.dtype, "device": work.device},
        "lora": LORA,
        "rollout": {"problems": work.problems, "samples": work.samples, "length": work.length, "temperature": 1.0},
        "reward": {"reader": "base", "baseline_every": 1 if baseline else NEVER},
        "algorithm": {"kl": kl, "kl_weight": KL_WEIGHT},
        "optim": {"lr": LEARNING_RATE, "grad_clip": GRAD_CLIP},
        "validation": {"problems": 1, "final_problems": 1},
        "checkpoint": {"runs_dir": str(folder / "runs"), "checkpoints_dir": str(folder / "checkpoints")},
        "tracking": {"samples_every": NEVER},
    }
    for group, settings in overrides.items():
        values[group] = values.get(group, {}) | settings
    return build_config(values, "benchmark")


class Phases:
    """Seconds spent in some methods of the trainer's parts, summed over calls."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.seconds: dict[str, float] = {}

    def watch(self, owner: Any, method: str, phase: str) -> None:
        """Counts `owner.method` as `phase` from now on."""
        inner = getattr(owner, method)

        def timed(*args: Any, **kwargs: Any) -> Any:
            with self._clock(phase):
                return inner(*args, **kwargs)

        setattr(owner, method, timed)

    @contextmanager
    def _clock(self, phase: str) -> Iterator[None]:
        synchronize(self._device)
        started = time.perf_counter()
        yield
        synchronize(self._device)
        self.seconds[phase] = self.seconds.get(phase, 0.0) + time.perf_counter() - started


def measure(work: Work, settings: Callable[[Path], Config], warmup: int, steps: int, baseline: bool) -> dict[str, Any]:
    """Runs `warmup` + `steps` steps; the report. `settings` makes the config for a scratch folder."""
    seconds: list[float] = []
    tokens = work.problems * work.samples * work.length
    rollout_seconds = 0.0
    with tempfile.TemporaryDirectory() as scratch:
        trainer = Trainer(open_session(settings(Path(scratch)), "benchmark", "benchmark", resume=False))
        policy = trainer.session.policy
        touch(policy.model)
        phases = Phases(policy.device)
        phases.watch(trainer.method.collector, "collect", "collect")
        phases.watch(trainer.method.updater, "update", "update")
        with MultiTracker() as tracker:
            memory = Memory(policy.device)
            for i in range(warmup + steps):
                if i == warmup:
                    phases.seconds.clear()
                    cpu_started = time.process_time()
                started = time.perf_counter()
                metrics, _ = trainer.step(tracker)
                synchronize(policy.device)
                if i >= warmup:
                    seconds.append(time.perf_counter() - started)
                    rollout_seconds += tokens / metrics["perf/rollout_tokens_per_second"]
            cpu_seconds = (time.process_time() - cpu_started) / steps
            peak = memory.above()
        moved = sum(float(p.detach().abs().sum()) for name, p in policy.trainable().items() if "lora_B" in name)
        weights = weight_bytes(policy.model)
        lengths = {len(trainer.session.readers.prompts.question_context(p)) for p in trainer.session.splits.train}
    if not moved > 0 or not metrics["optim/grad_norm"] > 0:
        fail("no gradient reached the adapter, so these steps trained nothing; use other problems")
    per_step = {name: round(total / steps, 4) for name, total in phases.seconds.items()}
    per_step["rollouts (within collect)"] = round(rollout_seconds / steps, 4)
    return report(
        SIDE,
        work,
        seconds,
        cpu_seconds=round(cpu_seconds, 4),
        peak_above_weights=peak,
        weights=weights,
        phases=per_step,
        prompt_tokens=[min(lengths), max(lengths)],
        baseline="every step" if baseline else "no timed step",
        precision="base in the given dtype, adapter and log-probs in float32, no autocast",
        grad_norm=metrics["optim/grad_norm"],
        reward_std=metrics["reward/group_std"],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    work_arguments(parser)
    parser.add_argument("--baseline", action="store_true", help="score the baseline CoT in every timed step")
    parser.add_argument("--kl", choices=["k3", "full"], default="k3", help="k3 is what TRL computes")
    parser.add_argument("--micro-batch-tokens", type=int, help="optim.micro_batch_tokens")
    args = parser.parse_args()
    work = work_of(args)
    optim = {"micro_batch_tokens": args.micro_batch_tokens} if args.micro_batch_tokens else {}

    def settings(folder: Path) -> Config:
        return config(work, folder, baseline=args.baseline, kl=args.kl, overrides={"optim": optim})

    try:
        print(json.dumps(measure(work, settings, args.warmup, args.steps, args.baseline)))
    except UserError as error:
        fail(str(error))


if __name__ == "__main__":
    main()
