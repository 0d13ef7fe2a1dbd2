"""How fast a step could be: its floating-point operations and bytes at this machine's measured peak.

    python benchmarks/roofline.py --work FOLDER --samples 12 --length 100 --measured SECONDS

The operations are the fewest that do the work: each prompt once for its G samples, logits only where they are needed,
two operations a multiply-add, attention only to what comes before, one base for actor, reference and critic. Left out
are norms, activations, softmax, sampling and the optimizer, and the traffic of activations, so the time is one that
no implementation reaches. In each phase the slower of the two, arithmetic or memory, counts.

Letters: P prompts, G samples each, L CoT tokens, T tokens of a prompt.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from measure import DTYPES, LORA, Work, synchronize, work_arguments, work_of

MATRIX_SIZES = {"cpu": (256, 1024, 2048), "cuda": (4096, 8192)}
LONG = 0.05
"""Seconds of a product beyond which larger ones are no faster."""
STREAM_BYTES = 1 << 30
"""Far more than any cache."""
REPEATS = 5
MULTIPLY_ADD = 2


@dataclass(frozen=True, slots=True)
class Model:
    """Sizes of a Llama-like decoder."""

    hidden: int
    layers: int
    intermediate: int
    heads: int
    kv_heads: int
    vocabulary: int
    head_dim: int

    @staticmethod
    def read(folder: Path) -> Model:
        """From a model's config.json."""
        values = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        return Model(
            values["hidden_size"],
            values["num_hidden_layers"],
            values["intermediate_size"],
            values["num_attention_heads"],
            values["num_key_value_heads"],
            values["vocab_size"],
            values.get("head_dim") or values["hidden_size"] // values["num_attention_heads"],
        )

    @property
    def matrices(self) -> list[tuple[int, int]]:
        """(inputs, outputs) of a layer's linear maps: query, key, value, output, gate, up, down."""
        queries, keys = self.heads * self.head_dim, self.kv_heads * self.head_dim
        attention = [(self.hidden, queries), (self.hidden, keys), (self.hidden, keys), (queries, self.hidden)]
        return [*attention, *[(self.hidden, self.intermediate)] * 2, (self.intermediate, self.hidden)]

    @property
    def layer_weights(self) -> int:
        """Weights of all layers' linear maps."""
        return self.layers * sum(inputs * outputs for inputs, outputs in self.matrices)

    @property
    def head_weights(self) -> int:
        return self.hidden * self.vocabulary

    @property
    def adapter_weights(self) -> int:
        """Weights of the LoRA adapter of all layers."""
        return self.layers * sum(LORA["rank"] * (inputs + outputs) for inputs, outputs in self.matrices)

    def attention(self, first: int, last: int) -> int:
        """Operations of the attention of a sequence's tokens `first` to `last`, from 1, to all up to themselves."""
        pairs = (last * (last + 1) - (first - 1) * first) // 2
        return self.layers * pairs * 2 * MULTIPLY_ADD * self.heads * self.head_dim

    @property
    def cache_values(self) -> int:
        """Keys and values of one token in all layers."""
        return 2 * self.layers * self.kv_heads * self.head_dim


@dataclass(frozen=True, slots=True)
class Phase:
    """What a part of a step costs at least."""

    flops: int
    bytes: int

    def seconds(self, flops_per_second: float, bytes_per_second: float) -> float:
        return max(self.flops / flops_per_second, self.bytes / bytes_per_second)


@dataclass(frozen=True, slots=True)
class Shape:
    """Lengths of a step's sequences, in tokens."""

    problems: int
    samples: int
    length: int
    prompt: int
    redacted: int
    """Of the critic's prompt before a CoT."""
    tail: int
    """Suffix and answer after a CoT."""
    answer: int


def phases(model: Model, shape: Shape, size: int) -> dict[str, Phase]:
    """The phases of a step; `size` is the bytes of a weight and of a cached value."""
    weights = size * (model.layer_weights + model.head_weights)
    scored = _forward(model, shape.problems, shape.prompt, shape.samples, shape.length - 1, shape.length)
    # The last answer token is predicted, never read.
    read = shape.length + shape.tail - 1
    critic = _forward(model, 1, shape.redacted, shape.problems * shape.samples, read, shape.answer)
    return {
        "prompt": Phase(_forward(model, shape.problems, shape.prompt, 1, 0, 1).total, weights),
        "decode": _decode(model, shape, size),
        "reward": Phase(critic.total, weights),
        "reference": Phase(scored.total, weights),
        "forward and backward": _update(model, shape, scored, weights),
    }


@dataclass(frozen=True, slots=True)
class _Forward:
    """Operations of a forward by kind."""

    tokens: int
    linear: int
    attention: int
    head: int

    @property
    def total(self) -> int:
        return self.linear + self.attention + self.head


def _forward(model: Model, prompts: int, prompt: int, samples: int, after: int, logits: int) -> _Forward:
    """`prompts` shared prefixes, each with `samples` sequences of `after` tokens and `logits` positions of logits."""
    tokens = prompts * (prompt + samples * after)
    attention = model.attention(1, prompt) + samples * model.attention(prompt + 1, prompt + after)
    return _Forward(
        tokens,
        MULTIPLY_ADD * tokens * model.layer_weights,
        prompts * attention,
        MULTIPLY_ADD * prompts * samples * logits * model.head_weights,
    )


def _decode(model: Model, shape: Shape, size: int) -> Phase:
    """L - 1 forwards of one token of each sequence. The prompt's keys and values are read once for its samples."""
    sequences, steps = shape.problems * shape.samples, shape.length - 1
    flops = MULTIPLY_ADD * sequences * steps * (model.layer_weights + model.head_weights)
    flops += sequences * model.attention(shape.prompt + 1, shape.prompt + steps)
    cached = steps * shape.problems * shape.prompt + sequences * steps * (steps + 1) // 2
    return Phase(flops, size * (steps * (model.layer_weights + model.head_weights) + cached * model.cache_values))


def _update(model: Model, shape: Shape, scored: _Forward, weights: int) -> Phase:
    """The base is frozen, so backward has a product for each of forward's, and attention's has two.

    The adapter needs two products more: the gradients of its own weights.
    """
    adapter = MULTIPLY_ADD * scored.tokens * model.adapter_weights
    return Phase(2 * scored.linear + 3 * scored.attention + 2 * scored.head + 3 * adapter, 2 * weights)


def best_seconds(action: Callable[[], Any], device: torch.device) -> float:
    """Least time of a few calls, after one that does not count."""
    action()
    times = []
    for _ in range(REPEATS):
        synchronize(device)
        started = time.perf_counter()
        action()
        synchronize(device)
        times.append(time.perf_counter() - started)
    return min(times)


def measured_flops(dtype: torch.dtype, device: torch.device) -> float:
    """Operations a second of the fastest of some square matrix products."""
    rates = []
    for n in MATRIX_SIZES[device.type]:
        left, right = (torch.randn(n, n, device=device).to(dtype) for _ in range(2))
        out = torch.empty_like(left)
        seconds = best_seconds(lambda a=left, b=right, c=out: torch.mm(a, b, out=c), device)
        rates.append(MULTIPLY_ADD * n**3 / seconds)
        if seconds > LONG:
            break
    return max(rates)


def measured_bandwidth(device: torch.device) -> float:
    """Bytes a second of a copy (read and written ones) or of a sum (read), whichever are more."""
    source = torch.ones(STREAM_BYTES // 4, device=device)
    target = torch.empty_like(source)
    copied = 2 * STREAM_BYTES / best_seconds(lambda: target.copy_(source), device)
    return max(copied, STREAM_BYTES / best_seconds(source.sum, device))


def shape_of(work: Work) -> Shape:
    """Lengths of the work's sequences, each the mean over its problems, rounded."""
    rows = work.rows()

    def mean(key: str) -> int:
        return round(sum(len(row[key]) for row in rows) / len(rows))

    tail = mean("suffix_ids") + mean("answer_ids")
    return Shape(
        work.problems, work.samples, work.length, mean("prompt_ids"), mean("redacted_ids"), tail, mean("answer_ids")
    )


def roofline(work: Work) -> dict[str, Any]:
    """Measures the machine, and the least seconds of each phase of `work` on it."""
    dtype, device = DTYPES[work.dtype], torch.device(work.device)
    flops, bandwidth = measured_flops(dtype, device), measured_bandwidth(device)
    costs = phases(Model.read(work.model), shape_of(work), dtype.itemsize)
    seconds = {name: cost.seconds(flops, bandwidth) for name, cost in costs.items()}
    return {
        "gflops_per_second": round(flops / 1e9, 1),
        "gbytes_per_second": round(bandwidth / 1e9, 1),
        "gflops": {name: round(cost.flops / 1e9, 2) for name, cost in costs.items()},
        "gbytes": {name: round(cost.bytes / 1e9, 2) for name, cost in costs.items()},
        "seconds": {name: round(value, 4) for name, value in seconds.items()},
        "total": round(sum(seconds.values()), 4),
    }


def line(figures: dict[str, Any], work: Work, measured: float | None = None) -> str:
    """The figures in one sentence."""
    text = (
        f"Roofline ({work.dtype}, {figures['gflops_per_second']:,} GFLOP/s, {figures['gbytes_per_second']:,} GB/s "
        f"measured): {sum(figures['gflops'].values()):,.0f} GFLOP take at least {figures['total']:.3g} s ("
        + ", ".join(f"{name} {seconds:.2g}" for name, seconds in figures["seconds"].items())
        + ")"
    )
    return (
        f"{text}; measured {measured:.3g} s, {measured / figures['total']:.2f} times that." if measured else f"{text}."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    work_arguments(parser)
    parser.add_argument("--measured", type=float, help="seconds of a step, to compare")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    work = work_of(args)
    figures = roofline(work)
    print(json.dumps(figures) if args.json else line(figures, work, args.measured))


if __name__ == "__main__":
    main()
