"""Which tokens of the answer gained: the reader's log-prob of each, after the base's CoTs and after the trained ones.

    python benchmarks/answer_tokens.py runs/NAME

For a run that `markov-cot eval` has evaluated against its base. A reward is a mean over an answer's tokens, the newline
that ends it among them; where it rises and accuracy does not, this shows which tokens it rose by: the first that is not
a mere space, which decides, those after it, the newline, which is known once the answer is, or the space. Beside them,
the trained CoTs of other questions with other answers: what they gain, too, is about no question. Printed as Markdown,
nats, with the standard error over the items.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

from run_reader import RunReader, open_reader

from markov_cot.data.problem import Problem
from markov_cot.evaluation.item_log import read_settings
from markov_cot.evaluation.statistics import mean_and_stderr

BATCH = 16
BASE = "base"
Cots = Mapping[int, list[int]]
"""By the item's place in the test split, as token ids."""
PLACES = ("space", "first", "later", "newline", "all")
Items = list[dict[str, float]]
"""By place within the answer, nats. An answer of one token has no later ones, and only some tokenizers write the space
before an answer as a token of its own."""


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


def swapped(cots: Cots, problems: Sequence[Problem]) -> Cots:
    """Each item with the CoT of the next one whose answer is another."""
    items = list(cots)
    found = {}
    for place, item in enumerate(items):
        others = (
            each for each in (*items[place + 1 :], *items[:place]) if problems[each].answer != problems[item].answer
        )
        found[item] = cots[next(others, item)]
    return found


def measure(run: Path) -> dict[str, Items]:
    """What the reader makes of the answers' tokens, by whose CoTs it reads: base, swapped and trained."""
    base, trained = stored_cots(run)
    reader = open_reader(run)
    sides = {BASE: base, "swapped": swapped(trained, reader.test), "trained": trained}
    return {name: tokens(reader, cots) for name, cots in sides.items()}


def tokens(reader: RunReader, cots: Cots) -> Items:
    """Of each item, the log-prob of its answer's tokens by place: a mean where there are several."""
    items = list(cots)
    found: Items = []
    for start in range(0, len(items), BATCH):
        part = items[start : start + BATCH]
        problems = [reader.test[i] for i in part]
        reading = reader.readers.read(problems, [cots[i] for i in part])
        for problem, logp_A in zip(problems, reading.scores.logps, strict=True):
            found.append(places(reader.written_answer(problem), logp_A.tolist()))
    return found


def places(written: Sequence[str], logps: Sequence[float]) -> dict[str, float]:
    """Of an answer's tokens, newline included, the log-probs by place."""
    spaces = 1 if len(written) > 2 and written[0].isspace() else 0
    parts = {
        "space": logps[:spaces],
        "first": logps[spaces : spaces + 1],
        "later": logps[spaces + 1 : -1],
        "newline": logps[-1:],
        "all": logps,
    }
    return {name: fmean(part) for name, part in parts.items() if part}


def table(sides: Mapping[str, Items]) -> str:
    """Markdown: a row a place within the answer."""
    lines = ["| token of the answer | items | base | trained, swapped | trained | gain | gain, swapped |"]
    lines.append("|---" * 7 + "|")
    for place in PLACES:
        base, other, trained = ([item[place] for item in of if place in item] for of in sides.values())
        n = len(base)
        if n < 2:
            continue
        means = " | ".join(f"{sum(of) / n:.3f}" for of in (base, other, trained))
        gains = " | ".join(_gain(base, of) for of in (trained, other))
        lines.append(f"| {place} | {n} | {means} | {gains} |")
    return "\n".join(lines)


def _gain(before: Sequence[float], after: Sequence[float]) -> str:
    gain, error = mean_and_stderr([b - a for a, b in zip(before, after, strict=True)])
    return f"{gain:+.3f} ± {error:.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    args = parser.parse_args()
    print(table(measure(args.run)))


if __name__ == "__main__":
    main()
