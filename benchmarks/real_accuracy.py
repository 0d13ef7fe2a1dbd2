"""When the reward rises and accuracy does not: by which tokens of the answer, and is it about the question?

Word problems (SVAMP), on which a small model is hardly ever right.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import answer_tokens
from real_gain import REWARD, Seeds, gains
from real_runs import Bench

SETTINGS: dict[str, Any] = {
    "model.dtype": "bfloat16",
    "rollout.problems": 3,
    "rollout.samples": 8,
    "optim.lr": 3e-4,
    "alarms.action": "continue",
    "steps": 60,
    "validation.every": 20,
}
METRICS = {"exact_match,anchor": "right", "answer_logprob,none": "log-prob", "answer_in_cot,none": "holds the answer"}


def measure(bench: Bench, seed: int) -> dict[str, Any]:
    """One run, evaluated, and the answers' tokens."""
    started = time.perf_counter()
    run = bench.train(REWARD, seed)
    evaluation = bench.evaluate(run)
    found = {REWARD.name: {"evaluation": evaluation}, "tokens": answer_tokens.measure(bench.folder / "runs" / run)}
    print(f"seed {seed}: {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
    return found


def tables(seeds: Seeds) -> list[str]:
    """Markdown of the evaluations, and of the tokens for each seed."""
    of_tokens = [f"Seed {seed}:\n\n{answer_tokens.table(of['tokens'])}" for seed, of in seeds.items()]
    return [gains(seeds, "svamp", (REWARD,), METRICS), *of_tokens]
