"""All that is to be measured on a CUDA GPU, in one call that ends within eight minutes.

    python benchmarks/bench_gpu.py --scratch FOLDER --trl /path/to/environment --real SMOLLM2 --json report.json

* tests: those of the suite that are marked `gpu`.
* paths: every way of decoding against reading whole sequences, on SmolLM2's shape (`decode_paths.py`).
* step: seconds and memory on the shape of Llama 3.1 8B (random bfloat16 weights, P 1, G 12, prompt 150, L 100; a little
  under 17 GB in FOLDER), by phase, beside TRL's; decode tokens a second as a share of what the memory's measured
  bandwidth allows when each token's forward reads every weight once.
* gain: a run of the recipe squad with the real model of 135 million parameters whose folder is given with `--real`
  (MARKOV_COT_DATA says where the data are), base and trained actor on the same held-out problems.

Each part's figures are printed, and written to the report, when it is done. What fails is said on stderr and stands in
the report, and the rest goes on. `--only` picks parts. Without a CUDA device: one line that says so, and exit code 2.
`--device cpu --tiny` rehearses all of it anywhere.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
import traceback
import xml.etree.ElementTree as ET
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import roofline
import torch
import workload
from measure import DTYPES, Work, fail
from runner import HERE, OURS, PATHS, TRL, environment, interpreter, run

GIB = 2**30
LIMIT_SECONDS = 480.0
GPU_TESTS = "tests/integration/test_gpu.py"
COUNT = 60
"""Problems in a work folder."""


@dataclass(frozen=True, slots=True)
class Scale:
    """How large everything is."""

    step: str
    """The model of the part `step`..."""
    paths: str
    """...and that of `paths`, both of random_llama.py."""
    samples: int
    length: int
    prompt: int
    written: int
    """Tokens that each decoder writes."""
    timed: int
    """Steps."""
    recipe: str
    """Of the training run..."""
    gain: dict[str, Any]
    """...and what is set otherwise."""


FULL = Scale("8b", "smollm2", 12, 100, 150, 16, 3, "squad", {
    "steps": 80, "rollout.problems": 16, "rollout.samples": 8, "validation.every": 20,
})  # fmt: skip
TINY = Scale("tiny", "tiny", 2, 4, 40, 4, 1, "quickstart", {
    "steps": 2, "rollout.problems": 1, "rollout.samples": 4, "rollout.length": 8, "validation.every": 0,
    "validation.final_problems": 4,
})  # fmt: skip


class Bench:
    """The parts, and what they have in common."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.scale = TINY if args.tiny else FULL
        self.device: str = args.device
        self._scratch: Path = args.scratch
        self._trl = interpreter(args.trl) if args.trl else None
        self._real: str | None = args.real or (workload.NANO if args.tiny else None)
        self._ends = time.perf_counter() + LIMIT_SECONDS

    def tests(self) -> dict[str, Any]:
        """How many tests passed, failed and were skipped."""
        path = self._scratch / "tests.xml"
        command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", f"--junitxml={path}", GPU_TESTS]
        done = self._run(command, HERE.parent)
        if done.returncode not in (0, 1):  # passed, or some failed
            fail(f"tests: pytest did not run\n{done.stdout[-500:]}{done.stderr[-500:]}")
        suite = ET.parse(path).getroot().find("testsuite")
        assert suite is not None
        counts = {key: int(suite.get(key, "0")) for key in ("tests", "failures", "errors", "skipped")}
        bad = [case for case in suite if {"failure", "error"} & {child.tag for child in case}]
        return counts | {"named": [case.get("name") for case in bad]}

    def paths(self) -> dict[str, Any]:
        """The report of decode_paths.py."""
        folder = self._work_folder(self.scale.paths, "float32")
        options = ["--work", str(folder), "--device", self.device, "--length", str(self.scale.written)]
        return run(sys.executable, PATHS, options, self._left())

    def step(self) -> dict[str, Any]:
        """Reports of a step, ours and TRL's, and the machine's limits."""
        folder = self._work_folder(self.scale.step, "bfloat16")
        if self.device == "cuda":
            torch.cuda.empty_cache()  # what made the weights
        work = Work(folder, 1, self.scale.samples, self.scale.length, "bfloat16", self.device)
        options = ["--work", str(folder), "--problems", "1", "--samples", str(work.samples)]
        options += ["--length", str(work.length), "--dtype", work.dtype, "--device", self.device]
        options += ["--warmup", "1", "--steps", str(self.scale.timed)]
        ours = run(sys.executable, OURS, options, self._left())
        theirs = run(self._trl, TRL, options, self._left()) if self._trl else None
        limits = roofline.roofline(work)
        bandwidth = 1e9 * limits["gbytes_per_second"]
        rate, share = bandwidth_share(ours, roofline.Model.read(work.model), bandwidth)
        return {
            "ours": ours,
            "trl": theirs,
            "bytes_per_second": bandwidth,
            "decode_tokens_per_second": rate,
            "share_of_bandwidth": share,
            "roofline": roofline.line(limits, work, ours["median"]),
        }

    def gain(self) -> dict[str, Any]:
        """Held-out accuracy of the base and of the trained actor, and seconds."""
        if self._real is None:
            fail("gain: needs a real model's folder; give it with --real")
        settings = self.scale.gain | {"model.name": self._real, "model.device": self.device}
        options = [f"--set={key}={value}" for key, value in settings.items()]
        started = time.perf_counter()
        with tempfile.TemporaryDirectory(dir=self._scratch) as folder:
            done = self._run(
                [sys.executable, "-m", "markov_cot", "train", self.scale.recipe, "--run", "gain", *options],
                Path(folder),
            )
            if done.returncode:
                fail(f"gain: training ended with code {done.returncode}\n{done.stderr[-500:]}")
            summary = json.loads(Path(folder, "runs", "gain", "summary.json").read_text(encoding="utf-8"))
        return {
            "model": Path(self._real).name,
            "settings": settings,
            "seconds": round(time.perf_counter() - started, 1),
            **{side: {key: summary[side][key] for key in ("accuracy", "n")} for side in ("base", "trained")},
        }

    def _work_folder(self, model: str, dtype: str) -> Path:
        folder = self._scratch / f"{model}-{dtype}"
        folder.mkdir(parents=True, exist_ok=True)
        workload.write(model, folder, self.scale.prompt, COUNT, dtype, self.device)
        return folder

    def _run(self, command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
        try:
            return subprocess.run(
                command, cwd=folder, env=environment(), capture_output=True, text=True, timeout=self._left()
            )
        except subprocess.TimeoutExpired:
            fail(f"{' '.join(command[2:5])}: not done when the time was up")

    def _left(self) -> float:
        return max(1.0, self._ends - time.perf_counter())


PARTS = ("tests", "paths", "step", "gain")


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scratch", type=Path, required=True, help="folder for models, problems and runs")
    parser.add_argument("--trl", help="virtual environment, or Python, with TRL")
    parser.add_argument("--real", help="folder of a real model of about 135 million parameters")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--tiny", action="store_true", help="everything small, as a rehearsal")
    parser.add_argument("--only", choices=PARTS, action="append", help="this part; may be given again")
    parser.add_argument("--json", type=Path, help="write the report here")
    return parser.parse_args(argv)


def attempt(part: Callable[[], Any]) -> Any:
    """What a part reports; that it failed, which it has said on stderr, where it did."""
    try:
        return part()
    except SystemExit:
        return {"failed": True}
    except Exception:  # a part's own, such as the device's memory running out
        traceback.print_exc()
        return {"failed": True}


def bandwidth_share(report: dict[str, Any], model: roofline.Model, bandwidth: float) -> tuple[float, float]:
    """Decode tokens a second, and their share of the bandwidth limit. The rollout's time includes the prompt's."""
    work = report["work"]
    sequences = work["problems"] * work["samples"]
    rate = sequences * work["length"] / report["phases"]["rollouts (within collect)"]
    read = DTYPES[work["dtype"]].itemsize * (model.layer_weights + model.head_weights)
    return rate, rate / (sequences * bandwidth / read)


def describe(name: str, found: dict[str, Any]) -> str:
    """A part's figures, in a few lines."""
    return "\n".join([f"{name}: failed, see above."] if "failed" in found else DESCRIBED[name](found))


def _tests(found: dict[str, Any]) -> list[str]:
    bad, skipped = found["failures"] + found["errors"], found["skipped"]
    passed = found["tests"] - bad - skipped
    return [f"tests: {passed} passed, {bad} failed, {skipped} skipped. " + ", ".join(found["named"])]


def _paths(found: dict[str, Any]) -> list[str]:
    lines = []
    for dtype, each in found["dtypes"].items():
        rows = ", ".join(
            f"{name} {row['largest_difference']:.2g} nats and {row['ms_a_token']:.2f} ms a token"
            for name, row in each["decoders"].items()
        )
        lines.append(f"paths, {dtype}: {rows}; rounding alone {each['rounding']:.2g} nats.")
    return lines


def _step(found: dict[str, Any]) -> list[str]:
    ours, theirs = found["ours"], found["trl"]
    work = ours["work"]
    lines = [
        f"step: P {work['problems']}, G {work['samples']}, L {work['length']}, {work['dtype']}, weights "
        f"{ours['weights'] / GIB:.2f} GiB: {ours['median']:.3f} s; "
        + ", ".join(f"{phase} {seconds:.3f} s" for phase, seconds in ours["phases"].items())
        + f"; {ours['peak_above_weights'] / GIB:.2f} GiB above the weights.",
        f"decode: {found['decode_tokens_per_second']:,.0f} tokens/s, {found['share_of_bandwidth']:.0%} of the limit "
        f"set by reading the weights at {found['bytes_per_second'] / 1e9:,.0f} GB/s.",
        found["roofline"],
    ]
    if theirs:
        lines.append(
            f"{theirs['side']}: {theirs['median']:.3f} s, {theirs['median'] / ours['median']:.2f} times ours; "
            f"{theirs['peak_above_weights'] / GIB:.2f} GiB above the weights."
        )
    else:
        lines.append("TRL: not measured; give its environment with --trl.")
    return lines


def _gain(found: dict[str, Any]) -> list[str]:
    base, trained = found["base"], found["trained"]
    return [
        f"gain: {found['model']} in {found['seconds']:.0f} s, accuracy {base['accuracy']:.3f} -> "
        f"{trained['accuracy']:.3f} on {trained['n']} held-out problems."
    ]


DESCRIBED: dict[str, Callable[[Any], list[str]]] = {"tests": _tests, "paths": _paths, "step": _step, "gain": _gain}


def main() -> None:
    args = arguments()
    started = time.perf_counter()
    if args.device == "cuda" and not torch.cuda.is_available():
        fail("bench_gpu: torch finds no CUDA device on this machine, so there is nothing to measure; run it on a GPU")
    args.scratch = args.scratch.resolve()
    args.scratch.mkdir(parents=True, exist_ok=True)
    bench = Bench(args)
    report: dict[str, Any] = {
        "device": torch.cuda.get_device_name() if args.device == "cuda" else "CPU",
        "torch": torch.__version__,
        "tiny": args.tiny,
        "parts": {},
    }
    for part in PARTS:
        if args.only and part not in args.only:
            continue
        report["parts"][part] = found = attempt(getattr(bench, part))
        report["seconds"] = round(time.perf_counter() - started, 1)
        if args.json:
            args.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        print(describe(part, found), flush=True)
    print(f"{report['device']}, torch {report['torch']}, {report['seconds']:.0f} s in all.")


if __name__ == "__main__":
    main()
