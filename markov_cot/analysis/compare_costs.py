"""What runs cost, from their logs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from markov_cot.analysis.compare_run import Columns, ComparedRun

SECONDS, MEMORY = "perf/step_seconds", "perf/peak_memory_bytes"
LEARNT, RESAMPLED = "sft/tokens", "reward/resampled_groups"


@dataclass(frozen=True, slots=True)
class Cost:
    """Of the steps in a run's log; None where the log does not say."""

    seconds: float | None
    """Wall time of the steps, without validations."""
    tokens: int | None
    tokens_of: Literal["sampled", "learnt"]
    """CoT tokens sampled, by the settings and the number of steps; of a warm start those learnt, as logged."""
    peak_memory_bytes: int | None


def cost_of(run: ComparedRun) -> Cost:
    """Return what a run cost."""
    seconds, memory = _finite(run.log, SECONDS), _finite(run.log, MEMORY)
    learnt = _finite(run.log, LEARNT)
    is_warm_start = run.settings["method"] == "sft"
    return Cost(
        math.fsum(seconds) if seconds else None,
        (int(math.fsum(learnt)) if learnt else None) if is_warm_start else _sampled(run, len(seconds)),
        "learnt" if is_warm_start else "sampled",
        int(max(memory)) if memory else None,
    )


def _sampled(run: ComparedRun, steps: int) -> int | None:
    return sampled_tokens(run.settings, steps, math.fsum(_finite(run.log, RESAMPLED))) if steps else None


def sampled_tokens(settings: Mapping[str, Any], steps: int, resampled: float) -> int:
    """Return the CoT tokens that a run has sampled: P G L a step, and G L for each group that was sampled again.

    >>> sampled_tokens({"rollout.problems": 2, "rollout.samples": 3, "rollout.length": 5}, 4, 1.0)  # 9 groups
    135
    """
    problems, samples, length = (int(settings[f"rollout.{each}"]) for each in ("problems", "samples", "length"))
    return int(steps * problems + resampled) * samples * length


def _finite(log: Columns, key: str) -> Sequence[float]:
    return [value for value in log.get(key, ()) if math.isfinite(value)]
