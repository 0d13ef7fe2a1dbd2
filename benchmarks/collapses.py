"""Runs that truly collapse the bundled model: when it happens, and when the alarms say so.

    python benchmarks/collapses.py --out FOLDER --seeds 10 11 12
    python benchmarks/collapses.py --out FOLDER --rescue --seeds 0 1 2

The alarms never stop these runs (`alarms.action: continue`). Onset is the first step at which the validation accuracy
is under half its peak, by more than their intervals explain, or at which the reward's 0.9 moving average is 1 nat under
its best. Runs that are in FOLDER already are not trained again: their logs are judged by the alarms' present defaults.
With --rescue the learning-rate recipe runs with `alarms.action: rollback` instead, and its final accuracy is printed.

The alarms' defaults were tuned on runs with seeds 0 to 2 of all recipes but `HELD_BACK`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import torch
from published_ppo import PublishedMistake, train

from markov_cot.alarms.logs.entry import Entry
from markov_cot.alarms.logs.opening import open_log
from markov_cot.alarms.monitor import Event, Monitor
from markov_cot.alarms.smoothing import smooth
from markov_cot.config.alarms import Alarms
from markov_cot.config.loading import build_config, flatten, read_recipe
from markov_cot.config.schema import Config
from markov_cot.config.yaml_files import read_yaml
from markov_cot.models.loading import load_base, load_tokenizer
from markov_cot.training.updater import Updater

RECIPES = Path(__file__).with_suffix("")
HEALTHY_RECIPES = RECIPES.with_name("healthy")
PUBLISHED, WEAK = "published-ppo", "weak-critic"
HELD_BACK = ("raw-reward", "actor-reward")
"""Run only once the alarms' defaults were settled."""
NAMES = (PUBLISHED, "learning-rate", WEAK, "entropy-bonus", *HELD_BACK)
HEALTHY = ("steady", "sparse", "passes", "long", "easy")
"""Those of alarm_quality.py, which should not collapse."""
NOISE, SHARPNESS = 0.28, 3.0
"""Of the weak critic."""
FORERUNNERS = ("ratio", "kl", "entropy", "repetition")
"""Alarms that do not restate the definition of onset."""
FALL = 1.0
"""Nats."""
RESCUE = {
    "steps": 60,
    "validation": {"final_problems": 500},
    "checkpoint": {"every": 5},
    "alarms": {"action": "rollback"},
}
"""Over the learning-rate recipe."""


def save_weak_base(folder: Path) -> None:
    """Saves a nano that slips often and is sure of it.

    Seeded Gaussian noise on every matrix, `NOISE` times the matrix's own deviation; all logits times `SHARPNESS`.
    """
    model = load_base(Config().model, torch.device("cpu"))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for matrix in (p for p in model.parameters() if p.ndim == 2):
            matrix += NOISE * matrix.std() * torch.randn(matrix.shape, generator=generator)
        model.model.norm.weight *= SHARPNESS
    model.save_pretrained(folder)
    load_tokenizer(Config().model).save_pretrained(folder)


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Nested settings with changes laid over them."""
    deeper = {k: merged(base[k], v) for k, v in changes.items() if isinstance(v, dict) and k in base}
    return {**base, **changes, **deeper}


def train_recipe(folder: Path, name: str, seed: int, changes: Mapping[str, Any]) -> Path:
    """Runs a recipe once, unless that was done before; returns the run's folder."""
    run = folder / "runs" / f"{name}-{seed}"
    if (run / "ended").exists():
        return run
    torch.set_num_threads(1)
    values: dict[str, Any] = {"seed": seed}
    for part in ("base", name):
        folder_of = HEALTHY_RECIPES if part in HEALTHY else RECIPES
        values = merged(values, read_yaml((folder_of / f"{part}.yaml").read_text(), part))
    values = merged(values, changes)
    values["checkpoint"] |= {"runs_dir": str(run.parent), "checkpoints_dir": str(folder / "checkpoints")}
    if name == WEAK:
        values["model"] = {"name": str(folder / WEAK)}
    updater = PublishedMistake if name == PUBLISHED else Updater
    outcome = train(build_config(values, name), run.name, name, updater)
    (run / "ended").write_text(json.dumps({"alarms": [e.alarm for e in outcome.alarms]}), encoding="utf-8")
    return run


class Verdict(NamedTuple):
    """What became of a run."""

    peak: float
    """Of the validation accuracy."""
    last: float
    onset: int | None
    by: str
    """What shows the onset: "accuracy" or "reward"."""
    critical: Event | None
    """The first critical alarm."""
    forerunner: Event | None
    """The first one of `FORERUNNERS`."""

    def row(self, name: str, seed: int) -> str:
        """Of a Markdown table."""
        cells = [name, seed, f"{self.peak:.2f}", f"{self.last:.2f}", f"{self.onset} ({self.by})" if self.onset else "-"]
        cells += [f"{e.step} ({e.alarm})" if e else "-" for e in (self.critical, self.forerunner)]
        late = self.critical.step - self.onset if self.critical and self.onset else None
        return f"| {' | '.join(map(str, [*cells, '-' if late is None else f'{late:+d}']))} |"


def onset(rows: Iterable[Entry], dataset: str = "arithmetic") -> tuple[int | None, str]:
    """Step of the onset, and by what."""
    key = f"eval/{dataset}/accuracy"
    memory: dict[str, float] = {}
    peak, low, best = 0.0, 0.0, float("-inf")
    for step, row in ((r.step, r.metrics) for r in rows):
        accuracy, high, reward = row.get(key), row.get(key + "_high"), row.get("reward/answer_logprob")
        if accuracy is not None and high is not None:
            if accuracy < peak / 2 and high < low:
                return step, "accuracy"
            if accuracy > peak:
                peak, low = accuracy, row[key + "_low"] or 0.0
        if reward is not None:
            smoothed = smooth(memory, "reward", reward, 0.9)
            best = max(best, smoothed)
            if smoothed <= best - FALL:
                return step, "reward"
    return None, ""


def judge(run: Path, dataset: str = "arithmetic") -> Verdict:
    """Replays a run's log."""
    rows = list(open_log(run / "log.jsonl").entries())
    monitor = Monitor(Alarms(), flatten(read_recipe(str(run / "config.yaml"))))
    events = [e for r in rows for e in monitor.update(r.step, r.metrics) if e.is_critical]
    forerunners = [e for e in events if e.alarm in FORERUNNERS]
    accuracies = [a for r in rows if (a := r.metrics.get(f"eval/{dataset}/accuracy")) is not None]
    return Verdict(
        max(accuracies), accuracies[-1], *onset(rows, dataset), next(iter(events), None), next(iter(forerunners), None)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--recipes", nargs="+", choices=NAMES, default=NAMES)
    parser.add_argument("--seeds", type=int, nargs="+", default=[10, 11, 12])
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--rescue", action="store_true")
    args = parser.parse_args()
    names = ["learning-rate"] if args.rescue else args.recipes
    if WEAK in names and not (args.out / WEAK).exists():
        save_weak_base(args.out / WEAK)
    work = list(product(names, args.seeds))
    with ProcessPoolExecutor(args.jobs) as pool:
        tasks = [pool.submit(train_recipe, args.out, *w, RESCUE if args.rescue else {}) for w in work]
        runs = [task.result() for task in tasks]
    if args.rescue:
        report_rescue(runs)
        return
    print(
        "| recipe | seed | peak | last | onset | first critical | first of ratio, KL, entropy, repetition | late by |"
    )
    print("|" + "---|" * 8)
    for (name, seed), run in zip(work, runs, strict=True):
        print(judge(run).row(name, seed))


def report_rescue(runs: Iterable[Path]) -> None:
    """Final accuracy, and what brought each rollback about."""
    for run in runs:
        rows = [json.loads(line) for line in (run / "alarms.jsonl").read_text(encoding="utf-8").splitlines()]
        critical = [f"{row['alarm']} at {row['step']}" for row in rows if row["level"] == "critical"]
        summary = json.loads((run / "summary.json").read_text()) if (run / "summary.json").exists() else None
        print(run.name, summary["trained"]["accuracy"] if summary else "stopped", critical)


if __name__ == "__main__":
    main()
