"""When the reward rises and accuracy does not: by which tokens of the answer, and is it about the question?

Word problems (SVAMP), on which a small model is hardly ever right. Beside the run with the default prompts, one as the
recipe squad has it: short CoTs, begun as answers are, and a reader that is shown such CoTs.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

import answer_tokens
from real_gain import REWARD, Seeds, gains
from real_runs import Arm, Bench

SETTINGS: dict[str, Any] = {
    "model.dtype": "bfloat16",
    "rollout.problems": 3,
    "rollout.samples": 8,
    "optim.lr": 3e-4,
    "alarms.action": "continue",
    "steps": 60,
    "validation.every": 20,
}
CUT_OFF = [
    {"cot": ": 12. He gave 5 of", "answer": "12"},
    {"cot": " 40 - 15 = 25 apples", "answer": "25"},
    {"cot": ": 8\n\nThis is because", "answer": "8"},
    {"cot": " that there were 130 people in", "answer": "130"},
    {"cot": ": $3 each, so that", "answer": "3"},
    {"cot": ": 6 * 4 = 24.", "answer": "24"},
]
SHORT = Arm(
    "short",
    "by reward, short CoTs begun as answers",
    settings={
        "rollout.problems": 8,
        "rollout.length": 10,
        "prompt.cot_prefix": "The answer is:",
        "prompt.examples.numeric": CUT_OFF,
        "algorithm.kl_weight": 0.05,
        "optim.lr": 4e-4,
    },
)
ARMS = (REWARD, SHORT)
METRICS = {"exact_match,anchor": "right", "answer_logprob,none": "log-prob", "answer_in_cot,none": "holds the answer"}


def measure(bench: Bench, seed: int) -> dict[str, Any]:
    """A run of each kind, evaluated, and the answers' tokens."""
    found = {}
    for arm in ARMS:
        started = time.perf_counter()
        run = bench.train(arm, seed)
        evaluation = bench.evaluate(run)
        tokens = answer_tokens.measure(bench.folder / "runs" / run)
        found[arm.name] = {"evaluation": evaluation, "reader": bench.first_row(run), "tokens": tokens}
        print(f"seed {seed}, {arm.name}: {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
    return found


def tables(seeds: Seeds) -> list[str]:
    """Markdown of the evaluations, and of the tokens over all seeds."""
    return [gains(seeds, "svamp", ARMS, METRICS), *(_of_tokens(arm, seeds) for arm in ARMS)]


def _of_tokens(arm: Arm, seeds: Seeds) -> str:
    """The answers' tokens, each item's mean over the seeds."""
    runs = [of[arm.name] for of in seeds.values()]
    reader, items = runs[0]["reader"], [run["tokens"] for run in runs]
    sides = {name: [_mean(same) for same in zip(*(own[name] for own in items), strict=True)] for name in items[0]}
    return (
        f"{arm.about}; the reader after a CoT that states the answer {reader['reader/ceiling']:.3f} "
        f"({reader['reader/ceiling_logprob']:.2f}), after none {reader['reader/floor']:.3f} "
        f"({reader['reader/floor_logprob']:.2f})\n\n{answer_tokens.table(sides)}"
    )


def _mean(items: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {place: fmean(item[place] for item in items) for place in items[0]}
