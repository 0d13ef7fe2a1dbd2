"""Does the published PPO collapse a real model, when do the alarms say so, and what helps?

The published loss with the published reader (the actor) and no KL term; the same with `alarms.action: rollback`; and
the same settings with the right ratio, as `algorithm.loss: ppo` has it. The reader is trained, too, and may come to
answer without the CoT: then the reward is as it was, and all CoTs of a question are worth the same. So the onset is the
first step at which the deviation of a group's rewards, a mean over 5 steps, is under a quarter of that of the first 5.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

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
WINDOW, FALL = 5, 0.25


def measure(bench: Bench, seed: int) -> dict[str, Any]:
    """What became of each kind of run."""
    found: dict[str, Any] = {}
    for arm in ARMS:
        started = time.perf_counter()
        run = bench.folder / "runs" / bench.train(arm, seed)
        rows = [json.loads(line) for line in (run / "log.jsonl").read_text("utf-8").splitlines()]
        held_out = [row[key] for row in rows if (key := f"eval/{DATASET}/answer_logprob") in row]
        steps = [row for row in rows if GROUP in row]
        alarms = map(json.loads, (run / "alarms.jsonl").read_text("utf-8").splitlines())
        critical = [alarm for alarm in alarms if alarm["level"] == "critical"]
        found[arm.name] = {
            "held_out": held_out,
            "group_std": _ends([row[GROUP] for row in steps]),
            "kl": _ends([row["policy/kl"] for row in steps]),
            "onset": onset([row[GROUP] for row in steps]),
            "critical": [critical[0]["step"], critical[0]["alarm"]] if critical else None,
            "rollbacks": rollbacks(critical, ended=(run / "summary.json").is_file()) if arm is RESCUED else 0,
        }
        print(f"seed {seed}, {arm.name}: {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
    return found


def onset(group_std: Sequence[float]) -> int | None:
    """The step, from 1, at which CoTs have come to be worth the same."""
    start = fmean(group_std[:WINDOW])
    means = ((last, fmean(group_std[last - WINDOW : last])) for last in range(WINDOW, len(group_std) + 1))
    return next((last for last, mean in means if mean < FALL * start), None)


def _ends(values: Sequence[float]) -> tuple[float, float]:
    return fmean(values[:WINDOW]), fmean(values[-WINDOW:])


def rollbacks(critical: Sequence[Mapping[str, Any]], *, ended: bool) -> int:
    """How often a run went back: by each critical alarm, but for one that cut it off."""
    return len({alarm["rollbacks"] for alarm in critical}) - (not ended)


def tables(seeds: Seeds) -> list[str]:
    """Markdown: a row for each kind of run and seed."""
    names = ("trained", "seed", "deviation in a group, nats", "KL", "held-out log-prob: first, best, last")
    names += ("onset", "first critical alarm", "rollbacks")
    lines = [f"| {' | '.join(names)} |", "|---" * len(names) + "|"]
    for arm in ARMS:
        for seed, of in seeds.items():
            run = of[arm.name]
            deviation, kl = (f"{run[key][0]:.3f} → {run[key][1]:.3f}" for key in ("group_std", "kl"))
            scores = ", ".join(f"{x:.2f}" for x in (run["held_out"][0], max(run["held_out"]), run["held_out"][-1]))
            critical = "{} ({})".format(*run["critical"]) if run["critical"] else "-"
            cells = (arm.about, seed, deviation, kl, scores, run["onset"] or "-", critical, run["rollbacks"])
            lines.append(f"| {' | '.join(map(str, cells))} |")
    return ["\n".join(lines)]
