"""Does the published PPO collapse a real model, when do the alarms say so, and what helps?

The published loss with the published reader (the actor) and no KL term; the same with `alarms.action: rollback`; the
same settings with the right ratio, as `algorithm.loss: ppo` has it; and those with the usual KL term. A reader that is
trained too comes to answer without the CoT, and the reward hides what becomes of it. So a run counts as collapsed at
the first validation whose greedy CoTs together hold under a third of the different words (of two letters or more) that
they held at first.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from real_gain import Seeds
from real_runs import Arm, Bench

from markov_cot.tracking.step_files import kept_steps, read_step, validation_folder

PUBLISHED = Arm("published", "published PPO", by="published")
RESCUED = Arm("rescued", "published PPO, rollback", by="published", settings={"alarms.action": "rollback"})
RIGHT = Arm("right", "right ratio", settings={"algorithm.loss": "ppo"})
HELD = Arm("held", "right ratio, KL term", settings={**RIGHT.settings, "algorithm.kl_weight": 0.1})
ARMS = (PUBLISHED, RESCUED, RIGHT, HELD)
SETTINGS: dict[str, Any] = {
    "alarms.action": "continue",
    "reward.reader": "actor",
    "algorithm.actor_reward_weight": 1.0,
    "algorithm.kl_weight": 0.0,
    "rollout.problems": 1,
    "rollout.samples": 8,
    "rollout.length": 10,
    "optim.lr": 4e-3,
    "steps": 20,
    "validation.every": 10,
    "validation.problems": 24,
    "validation.final_problems": 24,
    "validation.reader_check": 0,
    "checkpoint.every": 3,
}
"""Changes to the recipe svamp. One question a step, as published, and the rate of collapses/published-ppo.yaml."""
DATASET = "svamp"
GROUP = "reward/group_std"
WINDOW = 5
"""Steps at the start and at the end that a figure is a mean of."""
FALL = 1 / 3
"""What is left of the words."""


def measure(bench: Bench, seed: int) -> dict[str, Any]:
    """What became of each kind of run."""
    found: dict[str, Any] = {}
    for arm in ARMS:
        started = time.perf_counter()
        run = bench.folder / "runs" / bench.train(arm, seed)
        rows = [json.loads(line) for line in (run / "log.jsonl").read_text("utf-8").splitlines()]
        held_out = [row[key] for row in rows if (key := f"eval/{DATASET}/answer_logprob") in row]
        steps = [row for row in rows if GROUP in row]
        critical = _critical(run)
        found[arm.name] = {
            "held_out": held_out,
            "group_std": _ends([row[GROUP] for row in steps]),
            "kl": _ends([row["policy/kl"] for row in steps]),
            "words": (kept := words(validation_folder(run))),
            "onset": next((step for step, n in kept.items() if n < FALL * kept[0]), None),
            "critical": [critical[0]["step"], critical[0]["alarm"]] if critical else None,
            "rollbacks": rollbacks(run) if arm is RESCUED else 0,
        }
        print(f"seed {seed}, {arm.name}: {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
    return found


def words(validations: Path) -> dict[int, int]:
    """By validation, how many different words its CoTs hold."""
    cots = {step: " ".join(row["cot"] for row in read_step(validations, step)) for step in kept_steps(validations)}
    return {step: len(set(re.findall("[a-z]{2,}", text.lower()))) for step, text in cots.items()}


def _ends(values: Sequence[float]) -> tuple[float, float]:
    return fmean(values[:WINDOW]), fmean(values[-WINDOW:])


def rollbacks(run: Path) -> int:
    """How often a run went back: by each critical alarm, but for one that ended it."""
    return len({alarm["rollbacks"] for alarm in _critical(run)}) - (not (run / "summary.json").is_file())


def _critical(run: Path) -> list[dict[str, Any]]:
    """Its critical alarms, in order; those of steps that it went back over, too."""
    rows = map(json.loads, (run / "alarms.jsonl").read_text("utf-8").splitlines())
    return [row for row in rows if row["level"] == "critical"]


def tables(seeds: Seeds) -> list[str]:
    """Markdown: a row for each kind of run and seed."""
    names = ("trained", "seed", "deviation in a group, nats", "KL", "held-out log-prob: first, best, last")
    names += ("words in held-out CoTs", "collapsed at", "first critical alarm", "rollbacks")
    lines = [f"| {' | '.join(names)} |", "|---" * len(names) + "|"]
    for arm in ARMS:
        for seed, of in seeds.items():
            run = of[arm.name]
            deviation, kl = (f"{run[key][0]:.3f} → {run[key][1]:.3f}" for key in ("group_std", "kl"))
            scores = ", ".join(f"{x:.2f}" for x in (run["held_out"][0], max(run["held_out"]), run["held_out"][-1]))
            critical = "{} ({})".format(*run["critical"]) if run["critical"] else "-"
            kept = " → ".join(map(str, run["words"].values()))
            cells = (arm.about, seed, deviation, kl, scores, kept, run["onset"] or "-", critical, run["rollbacks"])
            lines.append(f"| {' | '.join(map(str, cells))} |")
    return ["\n".join(lines)]
