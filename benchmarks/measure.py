"""What all sides of a comparison share: the description of the work, the meter of memory, and the report.

Imports nothing of this project, because it also runs in environments that hold TRL alone.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import importlib.metadata
import json
import platform
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NoReturn

import torch

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
LORA = {"rank": 8, "alpha": 16}
LEARNING_RATE = 1e-4
GRAD_CLIP = 1.0
KL_WEIGHT = 0.1
RESET_PEAK = "5"
"""Written to /proc/self/clear_refs, it sets VmHWM, the highest resident size so far, back to the present size."""
VERSIONS = ("markov-cot", "torch", "transformers", "peft", "accelerate", "trl")


@dataclass(frozen=True, slots=True)
class Work:
    """What a step has to do, whoever does it."""

    folder: Path
    """As `workload.py` writes it: model, tokenizer and problems."""
    problems: int
    """P."""
    samples: int
    """G."""
    length: int
    """L: tokens of every CoT."""
    dtype: str
    """Of the base's weights."""
    device: str

    @property
    def model(self) -> Path:
        return self.folder / "model"

    @property
    def problem_file(self) -> Path:
        return self.folder / "problems.jsonl"

    def rows(self) -> list[dict[str, Any]]:
        """The problems, with the token ids of their contexts."""
        return [json.loads(line) for line in self.problem_file.read_text(encoding="utf-8").splitlines()]

    def as_json(self) -> dict[str, Any]:
        """For reports; two sides did the same work if and only if theirs are equal."""
        return {**asdict(self), "folder": str(self.folder)}


class Memory:
    """Highest memory use since it was made, above what was in use then.

    Made when the model is loaded, so that "above" is what training needs on top of the weights. On a CPU it is the
    process's resident size: the kernel keeps the maximum, so no peak is missed between two samples. On a GPU it is
    what torch has allocated.
    """

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        gc.collect()
        if self._cuda:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
            self.start = torch.cuda.memory_allocated()
            return
        # What loading has freed but glibc has kept would otherwise count as weights.
        if platform.libc_ver()[0] == "glibc":
            ctypes.CDLL(None).malloc_trim(0)
        try:
            Path("/proc/self/clear_refs").write_text(RESET_PEAK)
        except OSError as error:
            fail(f"peak memory: needs Linux's /proc/self/clear_refs, which cannot be written ({error.strerror})")
        self.start = _status_bytes("VmRSS")

    def above(self) -> int:
        """Bytes."""
        return (torch.cuda.max_memory_allocated() if self._cuda else _status_bytes("VmHWM")) - self.start


def touch(model: torch.nn.Module) -> None:
    """Reads every weight, so that files mapped into memory are resident before memory is measured."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.sum()


def weight_bytes(model: torch.nn.Module) -> int:
    """Bytes of all parameters, shared ones once."""
    return sum(p.numel() * p.element_size() for p in model.parameters())


def synchronize(device: torch.device) -> None:
    """Waits until the device has done all it was given, as a clock must."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def work_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options that describe the work and the measurement."""
    parser.add_argument("--work", type=Path, required=True, help="folder that workload.py wrote")
    parser.add_argument("--problems", type=positive, default=1, help="P: questions a step")
    parser.add_argument("--samples", type=positive, default=12, help="G: CoTs a question")
    parser.add_argument("--length", type=positive, default=100, help="L: tokens of every CoT")
    parser.add_argument("--dtype", choices=list(DTYPES), default="float32", help="of the base's weights")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--warmup", type=positive, default=1, help="steps before the timed ones")
    parser.add_argument("--steps", type=positive, default=3, help="timed steps")


def work_of(args: argparse.Namespace) -> Work:
    """The work that the parsed options describe; ends the program with code 2 where it cannot be done."""
    work = Work(args.work.resolve(), args.problems, args.samples, args.length, args.dtype, args.device)
    if not (work.model / "config.json").is_file() or not work.problem_file.is_file():
        fail(f"--work {args.work}: holds no model/ and problems.jsonl; write it with benchmarks/workload.py")
    if args.samples < 2:
        fail(f"--samples {args.samples}: a group needs at least 2")
    if args.device == "cuda" and not torch.cuda.is_available():
        fail("--device cuda: torch finds no CUDA device here; use --device cpu")
    return work


def positive(text: str) -> int:
    """An option's whole number above zero."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {value}")
    return value


def report(side: str, work: Work, seconds: Sequence[float], **figures: Any) -> dict[str, Any]:
    """A measurement as one JSON object. `seconds` are of the timed steps alone.

    Both sides also give `cpu_seconds`, the processor time of a step: far from threads times seconds, something else
    was running.
    """
    return {
        "side": side,
        "work": work.as_json(),
        "seconds": [round(s, 4) for s in seconds],
        "median": round(statistics.median(seconds), 4),
        "threads": torch.get_num_threads(),
        "versions": {name: version for name in VERSIONS if (version := _version(name))},
        **figures,
    }


def fail(message: str) -> NoReturn:
    """Says in one line what the caller has to fix, and ends with code 2."""
    print(message, file=sys.stderr)
    raise SystemExit(2)


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _status_bytes(field: str) -> int:
    """A size in /proc/self/status, which gives it in KiB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"/proc/self/status has no {field}")
