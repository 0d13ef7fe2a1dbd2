"""Which tokens of the answer gained: the reader's log-prob of each, after the base's CoTs and after the trained ones.

    python benchmarks/answer_tokens.py runs/NAME

For a run that `markov-cot eval` has evaluated against its base. A reward is a mean over an answer's tokens, the newline
that ends it among them; where it rises and accuracy does not, this shows which tokens it rose by: the first,
which decides, those after it, or the newline, which is known once the answer is. Printed as Markdown, nats, with the
standard error over the items.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from run_reader import RunReader, open_reader

from markov_cot.evaluation.item_log import read_settings
from markov_cot.evaluation.statistics import mean_and_stderr

BATCH = 16
BASE = "base"
Cots = Mapping[int, list[int]]
"""By the item's place in the test split, as token ids."""
PLACES = ("first", "later", "newline", "all")


def stored_cots(run: Path) -> tuple[Cots, Cots]:
    """The base's CoTs and the trained actor's, of the items that both have answered."""
    found: dict[str, dict[int, list[int]]] = {}
    for path in sorted((run / "eval" / "cache").glob("*.jsonl"), key=lambda each: each.stat().st_mtime_ns):
        settings = read_settings(path)
        if settings and settings["split"] == "test":
            rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()[1:]]
            found[settings["checkpoint"]] = {row["index"]: row["samples"][0]["cot_ids"] for row in rows}
    trained = {name: of for name, of in found.items() if name != BASE}
    if BASE not in found or len(trained) != 1:
        raise SystemExit(f"{run}: needs the evaluation of one checkpoint against its base; run markov-cot eval first")
    [own] = trained.values()
    both = sorted(own.keys() & found[BASE].keys())
    return {i: found[BASE][i] for i in both}, {i: own[i] for i in both}


def tokens(reader: RunReader, cots: Cots) -> list[dict[str, float]]:
    """Of each item, the log-prob of its answer's first token, the mean of those after it, the newline's, and of all."""
    items, found = list(cots), []
    for start in range(0, len(items), BATCH):
        part = items[start : start + BATCH]
        reading = reader.readers.read([reader.test[i] for i in part], [cots[i] for i in part])
        found += [_places(logp_A.tolist()) for logp_A in reading.scores.logps]
    return found


def _places(logps: Sequence[float]) -> dict[str, float]:
    *stated, newline = logps
    later = stated[1:]
    return {
        "first": stated[0],
        **({"later": sum(later) / len(later)} if later else {}),
        "newline": newline,
        "all": sum(logps) / len(logps),
    }


def table(before: Sequence[Mapping[str, float]], after: Sequence[Mapping[str, float]]) -> str:
    """Markdown: a row a place within the answer."""
    lines = ["| token of the answer | items | base | trained | gain |", "|---|---|---|---|---|"]
    for place in PLACES:
        pairs = [(a[place], b[place]) for a, b in zip(before, after, strict=True) if place in a]
        if len(pairs) < 2:
            continue
        gain, error = mean_and_stderr([b - a for a, b in pairs])
        old, new = (sum(side) / len(pairs) for side in zip(*pairs, strict=True))
        lines.append(f"| {place} | {len(pairs)} | {old:.3f} | {new:.3f} | {gain:+.3f} ± {error:.3f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    args = parser.parse_args()
    base, trained = stored_cots(args.run)
    reader = open_reader(args.run)
    print(table(tokens(reader, base), tokens(reader, trained)))


if __name__ == "__main__":
    main()
