"""Draws the gain on a real model beside its controls, from what real_model.py wrote.

    python benchmarks/real_plot.py FOLDER/gain.json docs/real_model.png

A dot for each seed with its 95 % interval: exact match through the frozen reader, on the same unseen questions.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.figure import Figure
from real_gain import GOLD, REWARD, SHUFFLED, Seeds
from real_runs import Arm

from markov_cot.evaluation.statistics import wilson_interval

ARMS = (REWARD, SHUFFLED, GOLD)
EXACT = "exact_match,line"
WIDTH = 0.5
"""Of the seeds of one row, in rows."""


class Share(NamedTuple):
    """Of n items, with its 95 % interval."""

    mean: float
    low: float
    high: float


def of_measure(found: Mapping[str, Any]) -> Share:
    """As an evaluation has it."""
    return Share(found["mean"], found["low"], found["high"])


def of_share(mean: float, n: int) -> Share:
    """Of a share alone."""
    return Share(mean, *wilson_interval(round(mean * n), n))


def rows(seeds: Seeds) -> dict[str, list[Share]]:
    """What is drawn, from the top: a share for each seed that was trained so far."""

    def tasks(arm: Arm) -> list[dict[str, Any]]:
        return [of[arm.name]["evaluation"]["markov_cot"]["squad"] for of in seeds.values() if arm.name in of]

    trained = {arm.about: [of_measure(task["metrics"][EXACT]) for task in tasks(arm)] for arm in ARMS}
    base = [of_measure(tasks(REWARD)[0]["against"]["metrics"][EXACT])]
    controls = [of[REWARD.name] for of in seeds.values()]
    probes = [each["probe"] for each in controls]
    swapped, empty = (
        [of_share(p["original"]["accuracy"] - p["tests"][test]["overall"]["accuracy_drop"], p["n"]) for p in probes]
        for test in ("swap", "empty")
    )
    pieces = {
        f"the passage's {name}": [of_share(piece["accuracy"], piece["n"])]
        for name, piece in controls[0]["pieces"].items()
    }
    return {"base": base, **trained, "by reward, of another question": swapped, "none": empty, **pieces}


def draw(seeds: Seeds, path: Path) -> None:
    """Write the picture, as PNG."""
    drawn = rows(seeds)
    figure = Figure(figsize=(7, 3.6), layout="constrained")
    axes = figure.subplots()
    for row, shares in enumerate(drawn.values()):
        for y, share in zip(_spread(row, len(shares)), shares, strict=True):
            errors = [[share.mean - share.low], [share.high - share.mean]]
            axes.errorbar(share.mean, y, xerr=errors, fmt="o", markersize=4, linewidth=1, color=f"C{row}")
    axes.set(yticks=range(len(drawn)), yticklabels=list(drawn), xlabel="exact match through the frozen reader", xlim=0)
    axes.invert_yaxis()
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=150)


def _spread(row: int, n: int) -> Sequence[float]:
    return [row + WIDTH * (i - (n - 1) / 2) / max(n, 2) for i in range(n)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    draw(json.loads(args.results.read_text(encoding="utf-8"))["seeds"], args.out)


if __name__ == "__main__":
    main()
