"""This trainer, earlier checkouts of it and releases of TRL on several shapes of work in turn, as a Markdown table.

    python benchmarks/compare_shapes.py --out FOLDER --ours now=VENV:CHECKOUT --ours before=VENV:CHECKOUT \\
        --trl newest=VENV --trl older=VENV [--models smollm2 56m] [--rounds 3]

Every shape in float32 and bfloat16: smollm2 with G 8 and 16 and L 50 and 100, 56m with G 12 and L 100, P 1, prompts of
150 tokens. A measurement is a process of its own with one step after one that does not count, on as many threads as
OMP_NUM_THREADS says. The second side of each kind is measured on the smallest shape of a model only. FOLDER keeps every
measurement, and the same command continues where it was interrupted; with `--lock FILE` each waits for that file's
lock, so that other work of the same machine can wait for it.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import workload
from measure import fail, positive
from runner import HERE, QUIET, interpreter

GIB = 2**30
PROMPT, COUNT = 150, 400
DTYPES = ("bfloat16", "float32")
SHAPES = {"smollm2": ((8, 50), (16, 50), (8, 100), (16, 100)), "56m": ((12, 100),)}
"""G and L, by model, the smallest first."""


@dataclass(frozen=True)
class Side:
    """A trainer in its environment."""

    name: str
    python: str
    script: Path
    path: str | None
    """Checkout that is measured; None for TRL."""
    everywhere: bool
    """Whether it is measured on every shape."""


def sides(args: argparse.Namespace) -> list[Side]:
    """As asked, ours first."""
    found = []
    for i, (name, where) in enumerate(args.ours):
        environment, _, checkout = where.partition(":")
        root = Path(checkout or HERE.parent).resolve()
        script = root / "benchmarks" / "bench_step.py"
        found.append(Side(name, interpreter(environment), script, str(root), i == 0))
    for i, (name, where) in enumerate(args.trl):
        found.append(Side(name, interpreter(where), HERE / "bench_trl.py", None, i == 0))
    return found


def measure(side: Side, work: Path, dtype: str, samples: int, length: int) -> dict[str, Any]:
    """One measurement's report."""
    shape = ("--samples", str(samples), "--length", str(length), "--dtype", dtype, "--warmup", "1", "--steps", "1")
    checkout = {"PYTHONPATH": side.path} if side.path else {}
    command = [side.python, str(side.script), "--work", str(work), *shape]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | QUIET | checkout)
    if done.returncode:
        fail(f"{side.name} on {work.name}: failed with code {done.returncode}\n{done.stderr[-1000:]}")
    report: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return report


@contextlib.contextmanager
def holding(lock: Path | None) -> Iterator[None]:
    """Within it the file is locked, if there is one."""
    with contextlib.ExitStack() as stack:
        if lock:
            fcntl.flock(stack.enter_context(lock.open("w")), fcntl.LOCK_EX)
        yield


def run(args: argparse.Namespace) -> list[dict[str, Any]]:
    """All measurements, those of before included."""
    path = args.out / "measurements.jsonl"
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.is_file() else []
    done = {(row["round"], row["model"], row["dtype"], row["samples"], row["length"], row["name"]) for row in rows}
    for number in range(args.rounds):
        for model in args.models:
            for dtype in DTYPES:
                work = args.out / f"{model}-{dtype}"
                if not (work / "problems.jsonl").is_file():
                    workload.write(model, work, PROMPT, COUNT, dtype)
                for samples, length in SHAPES[model]:
                    for side in sides(args):
                        key = (number, model, dtype, samples, length, side.name)
                        if key in done or not (side.everywhere or (samples, length) == SHAPES[model][0]):
                            continue
                        with holding(args.lock):
                            report = measure(side, work, dtype, samples, length)
                        names = ("round", "model", "dtype", "samples", "length", "name")
                        rows.append({**dict(zip(names, key, strict=True)), "load": os.getloadavg()[0], **report})
                        with path.open("a", encoding="utf-8") as file:
                            file.write(json.dumps(rows[-1]) + "\n")
                        print(*key, f"{report['median']:.2f} s", file=sys.stderr, flush=True)
    return rows


def table(rows: Sequence[dict[str, Any]], ours: str, newest: str) -> str:
    """Markdown: a row for each shape and side."""
    lines = [
        "| work | side | seconds a step (median) | least to most | times ours | peak above weights, GiB | of TRL's |",
        "|---|---|---|---|---|---|---|",
    ]
    shapes = dict.fromkeys((row["model"], row["dtype"], row["samples"], row["length"]) for row in rows)
    for model, dtype, samples, length in shapes:
        of = [r for r in rows if (r["model"], r["dtype"], r["samples"], r["length"]) == (model, dtype, samples, length)]
        by_side: dict[str, list[dict[str, Any]]] = {}
        for row in of:
            by_side.setdefault(row["name"], []).append(row)
        seconds = {name: [s for row in side for s in row["seconds"]] for name, side in by_side.items()}
        peaks = {name: max(row["peak_above_weights"] for row in side) for name, side in by_side.items()}
        for name, values in seconds.items():
            median = statistics.median(values)
            work = f"{model}, G {samples}, L {length}, {dtype}" if name == ours else ""
            times = f"{median / statistics.median(seconds[ours]):.2f}"
            spread = f"{min(values):.2f} to {max(values):.2f}"
            memory = f"{peaks[name] / GIB:.2f} | {peaks[name] / peaks[newest]:.2f}"
            lines.append(f"| {work} | {name} | {median:.2f} | {spread} | {times} | {memory} |")
    return "\n".join(lines)


def named(text: str) -> tuple[str, str]:
    """NAME=WHERE."""
    name, equals, where = text.partition("=")
    if not (name and equals and where):
        raise argparse.ArgumentTypeError(f"expected NAME=VENV, as in newest=/tmp/trl, got {text!r}")
    return name, where


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--ours", type=named, action="append", required=True, metavar="NAME=VENV[:CHECKOUT]")
    parser.add_argument("--trl", type=named, action="append", required=True, metavar="NAME=VENV")
    parser.add_argument("--models", nargs="+", choices=list(SHAPES), default=list(SHAPES))
    parser.add_argument("--rounds", type=positive, default=3)
    parser.add_argument("--lock", type=Path)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    print(table(run(args), args.ours[0][0], args.trl[0][0]))


if __name__ == "__main__":
    main()
