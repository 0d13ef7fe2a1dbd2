"""Does the published PPO collapse a real model, when do the alarms say so, and what helps?

The published loss with the published reader (the actor) and no KL term; the same with `alarms.action: rollback`; and
the same settings with the right ratio, as `algorithm.loss: ppo` has it. Onset is as in collapses.py.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from collapses import judge
from real_gain import Seeds
from real_runs import Arm, Bench

PUBLISHED = Arm("published", "published PPO", by="published")
RESCUED = Arm("rescued", "published PPO, rollback", by="published", settings={"alarms.action": "rollback"})
RIGHT = Arm("right", "right ratio", settings={"algorithm.loss": "ppo"})
ARMS = (PUBLISHED, RESCUED, RIGHT)
SETTINGS: dict[str, Any] = {
    "alarms.action": "continue",
    "reward.reader": "actor",
    "algorithm.actor_reward_weight": 1.0,
    "algorithm.kl_weight": 0.0,
    "rollout.problems": 1,
    "rollout.samples": 8,
    "rollout.length": 10,
    "optim.lr": 4e-3,
    "steps": 30,
    "validation.every": 10,
    "validation.problems": 24,
    "validation.final_problems": 24,
    "validation.reader_check": 0,
    "checkpoint.every": 3,
}
"""Changes to the recipe svamp. One question a step, as published, and the rate of collapses/published-ppo.yaml."""
DATASET = "svamp"


def measure(bench: Bench, seed: int) -> dict[str, Any]:
    """What became of each kind of run."""
    found: dict[str, Any] = {}
    for arm in ARMS:
        started = time.perf_counter()
        run = bench.folder / "runs" / bench.train(arm, seed)
        rows = [json.loads(line) for line in (run / "log.jsonl").read_text("utf-8").splitlines()]
        held_out = [row[key] for row in rows if (key := f"eval/{DATASET}/answer_logprob") in row]
        verdict = judge(run, DATASET)
        found[arm.name] = {
            "steps": rows[-1]["step"],
            "held_out": held_out,
            "onset": verdict.onset,
            "by": verdict.by,
            "critical": verdict.critical and [verdict.critical.step, verdict.critical.alarm],
            "rollbacks": rollbacks(run) if arm is RESCUED else 0,
        }
        print(f"seed {seed}, {arm.name}: {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
    return found


def rollbacks(run: Path) -> int:
    """How often a run went back: by each critical alarm, but for one that ended it."""
    rows = map(json.loads, (run / "alarms.jsonl").read_text("utf-8").splitlines())
    went = {row["rollbacks"] for row in rows if row["level"] == "critical"}
    return len(went) - (not (run / "summary.json").is_file())


def tables(seeds: Seeds) -> list[str]:
    """Markdown: a row for each kind of run and seed."""
    lines = ["| trained | seed | held-out log-prob: first, best, last | onset | first critical alarm | rollbacks |"]
    lines.append("|---" * 6 + "|")
    for arm in ARMS:
        for seed, of in seeds.items():
            run = of[arm.name]
            scores = ", ".join(f"{x:.2f}" for x in (run["held_out"][0], max(run["held_out"]), run["held_out"][-1]))
            onset = f"{run['onset']} ({run['by']})" if run["onset"] else "-"
            critical = "{} ({})".format(*run["critical"]) if run["critical"] else "-"
            lines.append(f"| {arm.about} | {seed} | {scores} | {onset} | {critical} | {run['rollbacks']} |")
    return ["\n".join(lines)]
