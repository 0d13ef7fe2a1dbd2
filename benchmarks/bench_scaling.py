"""Time and peak memory of this trainer's step against G, L and the prompt's length, as a table and a plot.

    python benchmarks/bench_scaling.py --scratch FOLDER --out docs/scaling.png

Each point is a process of its own (`bench_step.py`) on the random Llama of 56 M parameters. The last line is how much
more a step costs at the most samples than at the fewest, with the longest prompt: were the prompt not shared, it would
be as many times as there are more samples.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import workload
from measure import DTYPES, positive
from runner import OURS, interpreter, run, warn_if_busy

GIB = 2**30
SAMPLES, LENGTHS, PROMPTS = (4, 8, 16, 32, 64), (25, 50, 100, 200), (75, 150, 300, 600)
USUAL_SAMPLES, USUAL_LENGTH, USUAL_PROMPT = 12, 50, 150


@dataclass(frozen=True, slots=True)
class Point:
    """A setting of one axis with all others fixed."""

    axis: str
    samples: int
    length: int
    prompt: int

    @property
    def value(self) -> int:
        """Where it lies on its axis."""
        return {"G": self.samples, "L": self.length, "prompt": self.prompt}[self.axis]


def points(samples: Sequence[int], lengths: Sequence[int], prompts: Sequence[int]) -> Iterator[Point]:
    """All settings. G varies at the longest prompt, where sharing it matters most."""
    yield from (Point("G", g, USUAL_LENGTH, max(prompts)) for g in samples)
    yield from (Point("L", USUAL_SAMPLES, length, USUAL_PROMPT) for length in lengths)
    yield from (Point("prompt", USUAL_SAMPLES, USUAL_LENGTH, prompt) for prompt in prompts)


def measure(point: Point, args: argparse.Namespace, model: Path) -> dict[str, Any]:
    """The report of one point."""
    folder = args.scratch / f"prompt{point.prompt}"
    if not (folder / "problems.jsonl").is_file():
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "model").exists():
            (folder / "model").symlink_to(model.resolve())
        workload.write_problems(folder / "model", folder / "problems.jsonl", point.prompt, args.count)
    options = ["--work", str(folder), "--samples", str(point.samples), "--length", str(point.length)]
    options += ["--dtype", args.dtype, "--warmup", str(args.warmup), "--steps", str(args.steps)]
    report = run(interpreter(args.ours), OURS, options)
    print(f"{point}: {report['median']:.3f} s", file=sys.stderr, flush=True)
    return report


def table(figures: Sequence[tuple[Point, dict[str, Any]]]) -> str:
    """Markdown, a row a point."""
    lines = [
        "| axis | G | L | prompt | seconds a step | peak above the weights, GiB |",
        "|---|---|---|---|---|---|",
    ]
    for point, report in figures:
        settings = f"| {point.axis} | {point.samples} | {point.length} | {point.prompt} "
        lines.append(f"{settings}| {report['median']:.3f} | {report['peak_above_weights'] / GIB:.2f} |")
    return "\n".join(lines)


def plot(figures: Sequence[tuple[Point, dict[str, Any]]], path: Path) -> None:
    """Three columns, one an axis; time above memory."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    axes = dict.fromkeys(point.axis for point, _ in figures)
    measures = {"seconds a step": ("median", 1), "GiB above the weights": ("peak_above_weights", GIB)}
    figure, panels = plt.subplots(2, len(axes), figsize=(3 * len(axes), 4.5), squeeze=False, layout="constrained")
    for column, axis in enumerate(axes):
        of_axis = [(point, report) for point, report in figures if point.axis == axis]
        for row, (name, (key, unit)) in enumerate(measures.items()):
            panel = panels[row][column]
            panel.plot([p.value for p, _ in of_axis], [r[key] / unit for _, r in of_axis], "o-")
            panel.set(xlim=(0, None), ylim=(0, None), ylabel=name if column == 0 else "")
            panel.grid(alpha=0.3)
        fixed = {"G": of_axis[0][0].samples, "L": of_axis[0][0].length, "prompt": of_axis[0][0].prompt}
        panels[0][column].set_title(", ".join(f"{k} {v}" for k, v in fixed.items() if k != axis), fontsize=9)
        panels[1][column].set_xlabel({"G": "G, samples", "L": "L, CoT tokens", "prompt": "prompt, tokens"}[axis])
    figure.savefig(path, dpi=90)
    plt.close(figure)


def growth(figures: Sequence[tuple[Point, dict[str, Any]]]) -> str:
    """How a step's cost grows with G, in one sentence."""
    by_samples = {point.samples: (point, report["median"]) for point, report in figures if point.axis == "G"}
    few, many = min(by_samples), max(by_samples)
    ratio = by_samples[many][1] / by_samples[few][1]
    point = by_samples[many][0]
    return f"Prompt {point.prompt}, L {point.length}: a step at G {many} costs {ratio:.2f} times one at G {few}."


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scratch", type=Path, required=True, help="folder for the model and the problems")
    parser.add_argument("--out", type=Path, required=True, help="the plot, a PNG")
    parser.add_argument("--json", type=Path, help="write all reports here, as JSON lines")
    parser.add_argument("--model", choices=[workload.NANO, *workload.random_llama.SIZES], default="56m")
    parser.add_argument("--dtype", choices=list(DTYPES), default="float32")
    parser.add_argument("--samples", type=positive, nargs="+", default=SAMPLES)
    parser.add_argument("--lengths", type=positive, nargs="+", default=LENGTHS)
    parser.add_argument("--prompts", type=positive, nargs="+", default=PROMPTS)
    parser.add_argument("--warmup", type=positive, default=1)
    parser.add_argument("--steps", type=positive, default=3)
    parser.add_argument("--count", type=positive, default=100, help="problems")
    parser.add_argument("--ours", default=sys.executable)
    return parser.parse_args(argv)


def main() -> None:
    args = arguments()
    warn_if_busy()
    model = args.scratch / "model"
    if not (model / "config.json").is_file():
        workload.write_model(args.model, model, DTYPES[args.dtype])
    wanted = points(args.samples, args.lengths, args.prompts)
    figures = [(point, measure(point, args, model)) for point in wanted]
    if args.json:
        args.json.write_text("".join(json.dumps(report) + "\n" for _, report in figures), encoding="utf-8")
    plot(figures, args.out)
    print(table(figures), growth(figures), sep="\n\n")


if __name__ == "__main__":
    main()
