"""This trainer against releases of TRL on the same work, as a Markdown table.

    python benchmarks/compare_trl.py --work FOLDER --samples 12 --length 100 --dtype float32 \\
        --trl newest=/path/to/environment --trl older=/path/to/environment

With `--model FOLDER`, a real model's, FOLDER and problems for it are first put into the work folder.

One process after another, each in its own environment, in turn and `--rounds` times, so that a machine that slows down
slows all of them down. Seconds are medians over the timed steps of all rounds, memory the highest of any round, above
the loaded weights. Give the newest release first: the memory of the others is compared with its. The last line is the
roofline: what this trainer's step would take at the machine's measured peak.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import roofline
import workload
from measure import fail, positive, work_arguments, work_of
from runner import OURS, TRL, interpreter, run, warn_if_busy, work_options

GIB = 2**30
COUNT = 400
"""Problems that are written with `--model`."""
SAME = ("work", "prompt_tokens", "threads")
"""Of two reports; what differs in one of these is not the same measurement."""


def named_environment(text: str) -> tuple[str, str]:
    """NAME=PATH."""
    name, equals, path = text.partition("=")
    if not (name and equals and path):
        raise argparse.ArgumentTypeError(f"expected NAME=PATH, as in newest=/tmp/trl, got {text!r}")
    return name, path


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    work_arguments(parser)
    parser.add_argument(
        "--ours", default=sys.executable, help="Python of this trainer's environment; this one's without it"
    )
    parser.add_argument("--trl", type=named_environment, action="append", required=True, metavar="NAME=PATH")
    parser.add_argument("--model", type=workload.known_model, help=f"write --work first, for {workload.MODELS}")
    parser.add_argument("--prompt", type=positive, help="with --model: tokens of every question context")
    parser.add_argument("--rounds", type=positive, default=3)
    parser.add_argument("--baseline", action="store_true", help="ours scores the baseline CoT in every step")
    parser.add_argument("--kl", choices=["k3", "full"], default="k3", help="ours; TRL always computes k3")
    parser.add_argument("--checkpointing", action="store_true", help="TRL with gradient checkpointing")
    parser.add_argument("--no-autocast", action="store_true", help="TRL in bfloat16 without autocast")
    parser.add_argument("--out", type=Path, help="write all reports here, as JSON lines")
    return parser.parse_args(argv)


def measure(args: argparse.Namespace) -> dict[str, list[dict[str, Any]]]:
    """Reports of every round by the name of the side, ours first."""
    common = work_options(args)
    ours = [*common, "--kl", args.kl, *["--baseline"] * args.baseline]
    theirs = [*common, *["--checkpointing"] * args.checkpointing, *["--no-autocast"] * args.no_autocast]
    sides = [("ours", interpreter(args.ours), OURS, ours)]
    sides += [(name, interpreter(path), TRL, theirs) for name, path in args.trl]
    reports: dict[str, list[dict[str, Any]]] = {name: [] for name, *_ in sides}
    if len(reports) < len(sides):
        fail("--trl: two environments have the same name, or one is called ours")
    for number in range(args.rounds):
        for name, python, script, options in sides:
            report = run(python, script, options)
            reports[name].append(report)
            seconds = report["median"]
            print(f"round {number + 1}: {name} ({report['side']}) {seconds:.3f} s a step", file=sys.stderr, flush=True)
    return reports


def check_same(reports: dict[str, list[dict[str, Any]]]) -> None:
    """Ends the program where two sides did not do the same work."""
    flat = [report for side in reports.values() for report in side]
    for key in SAME:
        values = [report[key] for report in flat]
        if any(value != values[0] for value in values):
            fail(f"{key} is not the same on all sides: {values}")


def table(reports: dict[str, list[dict[str, Any]]]) -> str:
    """Markdown, a row a side."""
    seconds = {name: [s for report in side for s in report["seconds"]] for name, side in reports.items()}
    peaks = {name: max(report["peak_above_weights"] for report in side) for name, side in reports.items()}
    ours, newest = list(reports)[:2]
    base = statistics.median(seconds[ours])
    lines = [
        "| side | seconds a step (median) | least to most | times ours | peak above the weights, GiB | of newest |",
        "|---|---|---|---|---|---|",
    ]
    for name, side in reports.items():
        median, values = statistics.median(seconds[name]), seconds[name]
        lines.append(
            f"| {side[0]['side']} | {median:.3f} | {min(values):.3f} to {max(values):.3f} | {median / base:.2f} | "
            f"{peaks[name] / GIB:.2f} | {peaks[name] / peaks[newest]:.2f} |"
        )
    return "\n".join(lines)


def utilisation(side: Sequence[dict[str, Any]]) -> float:
    """Processor time over threads times seconds. Low where threads had to wait, for one another or for others' work."""
    busy = sum(report["cpu_seconds"] * len(report["seconds"]) for report in side)
    return busy / sum(report["threads"] * sum(report["seconds"]) for report in side)


def describe(reports: dict[str, list[dict[str, Any]]]) -> str:
    """What was measured, in a few lines under the table."""
    first = [side[0] for side in reports.values()]
    work, timed = first[0]["work"], len(first[0]["seconds"])
    lines = [
        f"P {work['problems']}, G {work['samples']}, L {work['length']}, prompt {first[0]['prompt_tokens']} tokens "
        f"(least, most), weights in {work['dtype']} on {work['device']}, {first[0]['threads']} threads; "
        f"{len(reports['ours'])} rounds of {timed} steps each. Baseline CoT in our step: {first[0]['baseline']}.",
    ]
    for name, report in zip(reports, first, strict=True):
        versions = ", ".join(f"{package} {version}" for package, version in report["versions"].items())
        lines.append(f"{report['side']}: {report['precision']}; {utilisation(reports[name]):.0%} busy; {versions}.")
    return "\n".join(lines)


def main() -> None:
    args = arguments()
    if args.model:
        workload.write(args.model, args.work, args.prompt, COUNT, args.dtype)
    work = work_of(args)
    warn_if_busy()
    reports = measure(args)
    if args.out:
        rows = [{"name": name, **report} for name, side in reports.items() for report in side]
        args.out.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    check_same(reports)
    median = statistics.median(s for report in reports["ours"] for s in report["seconds"])
    print(table(reports), describe(reports), roofline.line(roofline.roofline(work), work, median), sep="\n\n")


if __name__ == "__main__":
    main()
