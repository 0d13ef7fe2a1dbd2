"""What the alarms are worth: hits, misses, false alarms and steps of lead, with and without those on the CoTs' text.

    python benchmarks/alarm_quality.py --out FOLDER --seeds 20 21 --train
    python benchmarks/alarm_quality.py --out FOLDER --seeds 20 21 --set alarms.compression.critical=0.4

With --train the runs that FOLDER lacks are trained, one after the other: the recipes of `collapses/` and those of
`healthy/`, which should not collapse. Without, the runs that are there are judged, each by its log alone. What counts
is what became of a run and not its recipe: one with an onset, as collapses.py defines it, should be flagged by a
critical alarm, at the latest `GRACE` steps after the onset; one without, whose mean reward of the last ten rows is not
below that of the first ten, should not be flagged at all. A run that is neither, as one that goes under before it has
learnt anything to lose, is shown and not counted.

Limits are chosen on seeds that are even, and figures of odd ones are reported.
"""

from __future__ import annotations

import argparse
from collections.abc import Collection, Iterable, Sequence
from itertools import product
from pathlib import Path
from statistics import mean, median
from typing import NamedTuple

from collapses import HEALTHY, NAMES, WEAK, onset, save_weak_base, train_recipe

from markov_cot.alarms.logs.opening import open_log
from markov_cot.alarms.monitor import Monitor
from markov_cot.alarms.registry import ALARMS
from markov_cot.config.alarms import Alarms
from markov_cot.config.loading import apply, build_config, flatten, read_assignments, read_recipe

ON_TEXT = ("unstated", "compression", "refusal", "symbols")
"""The alarms whose worth is in question."""
RESTATES = "divergence"
"""An alarm on the accuracy that also defines the onset."""
REWARD = ("reward", "non_finite")
"""What judged published logs before their CoTs were read."""
BEFORE = tuple(name for name in ALARMS if name not in ON_TEXT)
SETS = {
    "before": BEFORE,
    "with those on text": tuple(ALARMS),
    f"before, without {RESTATES}": tuple(name for name in BEFORE if name != RESTATES),
    f"with those on text, without {RESTATES}": tuple(name for name in ALARMS if name != RESTATES),
    "reward alone, as of a log of rewards": REWARD,
    "reward, repetition and those on text, as of a log of rewards and CoTs": (*REWARD, "repetition", *ON_TEXT),
    **{f"{name} alone": (name,) for name in ON_TEXT},
}
RECIPES = (*(name for name in NAMES if name != "raw-reward"), *HEALTHY)
"""Unless others are asked for; the one that is left out seldom collapses."""
GRACE = 25
"""Steps after an onset within which an alarm is still a hit."""


ENDS = 10
"""Rows at either end; a healthy run's reward has not fallen from the first to the last of them."""


class Judged(NamedTuple):
    """A run, and what the alarms said of it."""

    name: str
    onset: int | None
    held: bool
    """Whether its reward ended no lower than it began."""
    critical: dict[str, int]
    """Step at which an alarm was critical first, by its name."""

    def flagged(self, names: Collection[str]) -> int | None:
        """Step of the first critical alarm of these."""
        return min((step for name, step in self.critical.items() if name in names), default=None)


class Quality(NamedTuple):
    """How good a set of alarms is."""

    hits: int
    late: int
    """Flagged more than `GRACE` steps after the onset."""
    missed: int
    false: int
    leads: list[int]
    """Steps from the alarm to the onset, of all runs with an onset that were flagged."""

    def row(self, name: str, collapsed: int, healthy: int) -> str:
        """Of a Markdown table."""
        lead = f"{median(self.leads):+g} ({min(self.leads):+d} to {max(self.leads):+d})" if self.leads else "-"
        cells = [name, f"{self.hits} of {collapsed}", self.late, self.missed, f"{self.false} of {healthy}", lead]
        return f"| {' | '.join(map(str, cells))} |"


def judge(run: Path, alarms: Alarms) -> Judged:
    """Replay a run's log."""
    rows = list(open_log(run / "log.jsonl").entries())
    monitor = Monitor(alarms, flatten(read_recipe(str(run / "config.yaml"))))
    critical: dict[str, int] = {}
    for row in rows:
        for event in monitor.update(row.step, row.metrics):
            if event.is_critical:
                critical.setdefault(event.alarm, row.step)
    rewards = [value for row in rows if (value := row.metrics.get("reward/answer_logprob")) is not None]
    held = mean(rewards[-ENDS:]) >= mean(rewards[:ENDS])
    return Judged(run.name, onset(rows)[0], held, critical)


def quality(runs: Iterable[Judged], names: Collection[str]) -> Quality:
    """Count what a set of alarms did."""
    hits = late = missed = false = 0
    leads = []
    for run in runs:
        step = run.flagged(names)
        if run.onset is None:
            false += step is not None and run.held
        elif step is None:
            missed += 1
        else:
            leads.append(run.onset - step)
            hits += step <= run.onset + GRACE
            late += step > run.onset + GRACE
    return Quality(hits, late, missed, false, leads)


def report(runs: Sequence[Judged]) -> None:
    """Print a table of the sets of alarms, and one of the runs."""
    collapsed = [run for run in runs if run.onset is not None]
    healthy = sum(run.held for run in runs if run.onset is None)
    print("| alarms | hits | late | missed | false alarms | median lead in steps (range) |\n|" + "---|" * 6)
    for name, names in SETS.items():
        print(quality(runs, names).row(name, len(collapsed), healthy))
    print("\n| run | onset, or what became of it | critical alarms, by their first step |\n|" + "---|" * 3)
    for run in runs:
        alarms = ", ".join(f"{name} {step}" for name, step in sorted(run.critical.items(), key=lambda each: each[1]))
        outcome = run.onset or ("healthy" if run.held else "neither")
        print(f"| {run.name} | {outcome} | {alarms or '-'} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--recipes", nargs="+", choices=(*NAMES, *HEALTHY), default=RECIPES)
    parser.add_argument("--seeds", type=int, nargs="+", default=[20, 21, 22, 23])
    parser.add_argument("--train", action="store_true", help="train the runs that are not there yet")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting alarms.*")
    args = parser.parse_args()
    work = [(name, seed) for seed, name in product(args.seeds, args.recipes)]
    if args.train:
        if WEAK in args.recipes and not (args.out / WEAK).exists():
            save_weak_base(args.out / WEAK)
        for name, seed in work:
            train_recipe(args.out, name, seed, {})
    alarms = build_config(apply({}, read_assignments(args.set)), "--set").alarms
    folders = [args.out / "runs" / f"{name}-{seed}" for name, seed in work]
    report([judge(folder, alarms) for folder in folders if (folder / "ended").exists()])


if __name__ == "__main__":
    main()
