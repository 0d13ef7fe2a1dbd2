"""When the reward rises and accuracy does not: by which tokens of the answer, and is it about the question?

Word problems (SVAMP), on which a small model is hardly ever right, with the default prompts.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from statistics import fmean
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
    """A run, evaluated, and the answers' tokens."""
    started = time.perf_counter()
    run = bench.train(REWARD, seed)
    evaluation = bench.evaluate(run)
    tokens = answer_tokens.measure(bench.folder / "runs" / run)
    print(f"seed {seed}: {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
    return {REWARD.name: {"evaluation": evaluation, "reader": bench.first_row(run), "tokens": tokens}}


def tables(seeds: Seeds) -> list[str]:
    """Markdown of the evaluations, and of the tokens over all seeds."""
    runs = [of[REWARD.name] for of in seeds.values()]
    reader, items = runs[0]["reader"], [run["tokens"] for run in runs]
    sides = {name: [_mean(same) for same in zip(*(own[name] for own in items), strict=True)] for name in items[0]}
    about_reader = (
        f"The reader is right after a CoT that states the answer in {reader['reader/ceiling']:.3f} of cases "
        f"(log-prob {reader['reader/ceiling_logprob']:.2f}), after none in {reader['reader/floor']:.3f} "
        f"({reader['reader/floor_logprob']:.2f})."
    )
    return [about_reader, gains(seeds, "svamp", (REWARD,), METRICS), answer_tokens.table(sides)]


def _mean(items: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {place: fmean(item[place] for item in items) for place in items[0]}
