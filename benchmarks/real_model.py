"""What training does to a real instruct model, claim by claim, over seeds; resumable.

    MARKOV_COT_DATA=... python benchmarks/real_model.py --model SMOLLM2 --claim gain --seeds 0 1 2 --out FOLDER

gain            reading comprehension with free-text answers (recipe squad), and its controls
continuation    Wikipedia (recipe wiki, made smaller): informativeness, and copies of the passage beside it
fragility       Markovian against Non-Markovian runs of the continuation, and what other readers make of the CoTs
accuracy        word problems (SVAMP), where the reward rises and accuracy does not: by which tokens
collapse        the published PPO, the same with rollback, and with the right ratio

The files real_*.py say what each measures. FOLDER/CLAIM.json has all of it, and tables are printed as Markdown. What is
in FOLDER already is not made again. `--set` changes settings of all runs.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import real_accuracy
import real_collapse
import real_fragility
from measure import positive
from real_gain import (
    CONTINUATION,
    READING,
    Seeds,
    continuation_tables,
    measure_continuation,
    measure_reading,
    reading_tables,
)
from real_runs import Bench

from markov_cot.config.loading import read_assignments


@dataclass(frozen=True)
class Claim:
    """What is asked, of which runs."""

    family: str
    """What its runs' names begin with; claims of one family share runs."""
    recipe: str
    settings: Mapping[str, Any]
    measure: Callable[[Bench, int], dict[str, Any]]
    """All of one seed."""
    tables: Callable[[Seeds], list[str]]


CLAIMS = {
    "gain": Claim("gain", "squad", READING, measure_reading, reading_tables),
    "continuation": Claim("continuation", "wiki", CONTINUATION, measure_continuation, continuation_tables),
    "fragility": Claim("continuation", "wiki", CONTINUATION, real_fragility.measure, real_fragility.tables),
    "accuracy": Claim("accuracy", "svamp", real_accuracy.SETTINGS, real_accuracy.measure, real_accuracy.tables),
    "collapse": Claim("collapse", "svamp", real_collapse.SETTINGS, real_collapse.measure, real_collapse.tables),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="an instruct model's folder or hub id")
    parser.add_argument("--claim", choices=list(CLAIMS), required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--n", type=positive, default=200, help="unseen items")
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    claim = CLAIMS[args.claim]
    settings = {**claim.settings, "model.name": args.model, **read_assignments(args.settings)}
    args.out.mkdir(parents=True, exist_ok=True)
    bench = Bench(args.out.resolve(), claim.family, claim.recipe, settings, args.n)
    seeds: dict[str, Any] = {}
    for seed in args.seeds:
        seeds[str(seed)] = claim.measure(bench, seed)
        document = {"settings": settings, "n": args.n, "seeds": seeds}
        (args.out / f"{args.claim}.json").write_text(json.dumps(document, indent=1), encoding="utf-8")
        print(*claim.tables(seeds), sep="\n\n", flush=True)


if __name__ == "__main__":
    main()
