"""Is the Markovian CoT the more load-bearing one? Both kinds trained on the same data and seeds, probed and compared.

    python benchmarks/load_bearing.py --out FOLDER --seeds 0 1 2 [--recipe quickstart] [--n 200] [--set key=value ...]

For each seed a Markovian run, and one whose reader sees the question too, which differs in nothing else; each writes
its own CoTs and reads them in its own mode. Printed as Markdown: accuracy, every test's effect (nats per answer token,
95 % interval) in both, and their paired difference with Holm's p. FOLDER/load_bearing.json has all of it. A run or a
probe that is there already is not made again.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

MODES = {"markovian": "true", "non-markovian": "false"}


def train(folder: Path, recipe: str, mode: str, seed: int, settings: list[str]) -> str:
    """Train one run, unless it has ended before. Returns its name."""
    name = f"{mode}-{seed}"
    if not (folder / "runs" / name / "summary.json").is_file():
        options = ["--seed", str(seed), "--run", name, "--set", f"prompt.markovian={MODES[mode]}", *settings]
        if (folder / "checkpoints" / name).is_dir():
            options.append("--resume")
        command = [sys.executable, "-m", "markov_cot", "train", recipe, *options]
        subprocess.run(command, cwd=folder, check=True, stdout=2)
    return name


def probe(folder: Path, run: str, against: str, n: int, reader: str | None, settings: list[str]) -> dict[str, Any]:
    """Probe one run against another; what was computed before is taken from the runs' caches."""
    command = [sys.executable, "-m", "markov_cot", "probe", "--run", run, "--against", against, "--n", str(n), "--json"]
    command += [*(["--reader", reader] if reader else []), *settings]
    started = time.perf_counter()
    done = subprocess.run(command, cwd=folder, check=True, stdout=subprocess.PIPE)
    found: dict[str, Any] = json.loads(done.stdout)
    return found | {"seconds": round(time.perf_counter() - started)}


def table(probes: dict[int, dict[str, Any]]) -> str:
    """Markdown: a row for each test and seed, and one for the seeds' mean, with their lowest and highest value."""
    lines = ["| test | seed | Markovian | Non-Markovian | difference | p (Holm) |", "|---|---|---|---|---|---|"]
    tests = dict.fromkeys(test for found in probes.values() for test in found["against"]["differences"])
    for test in tests:
        pooled: list[tuple[float, float, float]] = []
        for seed, found in probes.items():
            difference = found["against"]["differences"].get(test)
            if difference is None:
                continue
            own, other = (each["tests"][test]["overall"] for each in (found, found["against"]))
            overall = difference["overall"]
            pooled.append((own["effect"], other["effect"], overall["difference"]))
            cells = [interval(own, "effect"), interval(other, "effect"), interval(overall, "difference")]
            lines.append(f"| {test} | {seed} | {' | '.join(cells)} | {overall['p_holm']:.2g} |")
        if len(pooled) > 1:
            lines.append(f"| {test} | mean | {' | '.join(map(spread, zip(*pooled, strict=True)))} | |")
    return "\n".join(lines)


def originals(probes: dict[int, dict[str, Any]]) -> str:
    """Markdown: what both kinds achieve with their CoTs as they are."""
    lines = ["| seed | mode | answer log-prob | accuracy |", "|---|---|---|---|"]
    for seed, found in probes.items():
        for mode, each in zip(MODES, (found, found["against"]), strict=True):
            original = each["original"]
            accuracy = f"{original['accuracy']:.3f}" if "accuracy" in original else "-"
            lines.append(f"| {seed} | {mode} | {interval(original, 'logprob')} | {accuracy} |")
    return "\n".join(lines)


def spread(values: tuple[float, ...]) -> str:
    """Their mean, and the lowest and the highest."""
    return f"{sum(values) / len(values):+.3f} ({min(values):+.3f} to {max(values):+.3f})"


def interval(of: dict[str, float], key: str) -> str:
    """A mean with its interval."""
    return f"{of[key]:+.3f} [{of['low']:+.3f}, {of['high']:+.3f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--recipe", default="quickstart")
    parser.add_argument("--n", type=int, default=200, help="problems probed")
    parser.add_argument("--reader", help="who reads, as for probe")
    parser.add_argument("--set", nargs="*", default=[], help="settings passed on to train")
    parser.add_argument("--probe-set", nargs="*", default=[], help="settings passed on to probe")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    settings, of_probe = ([part for s in each for part in ("--set", s)] for each in (args.set, args.probe_set))
    probes: dict[int, dict[str, Any]] = {}
    for seed in args.seeds:
        own, other = (train(args.out, args.recipe, mode, seed, settings) for mode in MODES)
        probes[seed] = probe(args.out, own, other, args.n, args.reader, of_probe)
        (args.out / "load_bearing.json").write_text(json.dumps(probes, indent=1), encoding="utf-8")
    print(originals(probes), table(probes), sep="\n\n")


if __name__ == "__main__":
    main()
