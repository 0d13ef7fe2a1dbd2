"""Runs' folders made by hand, for reports: no training, a few milliseconds each."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from markov_cot.analysis.report.sources import Source, open_source
from markov_cot.config.loading import apply, build_config, dump_config
from markov_cot.evaluation.statistics import wilson_interval
from markov_cot.tracking.step_files import StepFiles

Rows = Sequence[Mapping[str, Any]]
ARITHMETIC = "eval/arithmetic"


def log_rows(steps: int, **metrics: float | Callable[[int], float]) -> list[dict[str, Any]]:
    """Rows of a log from step 1 on. A metric is a number or a function of the step; `__` in its name is a slash."""
    return [
        {"step": step, **{name.replace("__", "/"): of(step) if callable(of) else of for name, of in metrics.items()}}
        for step in range(1, steps + 1)
    ]


def validated(step: int, right: int, n: int = 100, stem: str = ARITHMETIC) -> dict[str, Any]:
    """The row of a log that has nothing but a validation."""
    low, high = wilson_interval(right, n)
    return {
        "step": step,
        f"{stem}/accuracy": right / n,
        f"{stem}/accuracy_low": low,
        f"{stem}/accuracy_high": high,
        f"{stem}/answer_logprob": right / n - 1,
    }


def answers(rights: Sequence[bool | None], **more: Any) -> list[dict[str, Any]]:
    """Rows of a validation, one a problem; a callable in `more` is of the problem's number."""
    return [
        {
            "problem": f"p{i}",
            "question": f"What is {i} + 1?",
            "answer": str(i + 1),
            "cot": f"{i} and 1 make {i + 1 if right else i + 7}.",
            "reader_answer": f"{i + 1}\n",
            "predicted": str(i + 1),
            "right": right,
            "f1": None,
            "answer_logprob": -0.5 if right else -1.5,
            **{key: of(i) if callable(of) else of for key, of in more.items()},
        }
        for i, right in enumerate(rights)
    ]


def score(rows: Rows) -> dict[str, Any]:
    """As in summary.json."""
    n, right = len(rows), sum(bool(row["right"]) for row in rows)
    is_graded = rows[0]["right"] is not None
    low, high = wilson_interval(right, n) if is_graded else (0.0, 0.0)
    logprob = sum(row["answer_logprob"] for row in rows) / n
    accuracy = right / n if is_graded else None
    return {"n": n, "accuracy": accuracy, "low": low, "high": high, "answer_logprob": logprob, "f1": None}


def write_run(
    folder: Path,
    rows: Rows,
    *,
    settings: Mapping[str, Any] | None = None,
    validations: Mapping[int, Rows] | None = None,
    final: tuple[Rows, Rows] | None = None,
    best_step: int | None = None,
    lines: Mapping[str, Rows] | None = None,
    documents: Mapping[str, Any] | None = None,
    rollouts: Mapping[int, Rows] | None = None,
) -> Source:
    """Write a run of sums, and open it.

    `final` are the answers of base and trained actor at the end; `lines` and `documents` other files of it, by name.
    """
    folder.mkdir(parents=True)
    config = build_config(apply({"data": {"dataset": "arithmetic"}}, settings or {}), "test")
    (folder / "config.yaml").write_text(dump_config(config))
    for name, of in ({"log.jsonl": rows} | dict(lines or {})).items():
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in of))
    kept = StepFiles(folder / "validation", -1)
    for step, of in (validations or {}).items():
        kept.write(step, of)
    trained_rollouts = StepFiles(folder / "rollouts", -1)
    for step, of in (rollouts or {}).items():
        trained_rollouts.write(step, of)
    found = dict(documents or {})
    if final:
        kept.finish("base", final[0])
        kept.finish("trained", final[1])
        step = max(row["step"] for row in rows)
        summary = {"step": step, "best_step": best_step, "base": score(final[0]), "trained": score(final[1])}
        found["summary.json"] = summary
    for name, document in found.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(document))
    return open_source(str(folder), folder.parent)


def healthy_rows(steps: int = 12) -> list[dict[str, Any]]:
    """A log of a run that learns, validated at the start, in the middle and at the end."""
    rows = log_rows(
        steps,
        reward__answer_logprob=lambda step: -2 + 0.05 * step,
        reward__baseline_logprob=-2.0,
        reward__normalized=lambda step: 0.05 * step,
        reward__group_std=0.3,
        reward__zero_variance_groups=0.0,
        policy__kl=lambda step: 0.01 * step,
        policy__entropy=lambda step: 2.0 - 0.01 * step,
        policy__reference_ratio=1.0,
        ppo__ratio_max=1.01,
        cot__repetition=0.1,
        cot__answer_in_cot=0.3,
        loss__total=0.2,
        optim__grad_norm=1.0,
        optim__lr=1e-3,
        perf__step_seconds=1.5,
        perf__peak_memory_bytes=2.0**30,
    )
    for step, right in ((steps // 2, 60), (steps, 80)):
        rows[step - 1] |= validated(step, right)
    start = {"reader/ceiling": 0.9, "reader/floor": 0.1, "reader/ceiling_logprob": -0.1, "reader/floor_logprob": -2.0}
    return [validated(0, 40) | start, *rows]


def healthy(folder: Path, **more: Any) -> Source:
    """A run that has ended, improved: of 40 problems 10 were right before, and 30 are now."""
    before, after = answers([i < 10 for i in range(40)]), answers([i < 30 for i in range(40)])
    middle = answers([i < 20 for i in range(40)])
    given: dict[str, Any] = {
        "validations": {0: before, 6: middle, 12: after},
        "final": (before, after),
        "best_step": 12,
    }
    return write_run(folder, healthy_rows(), **(given | more))


def collapsed(folder: Path) -> Source:
    """A run whose held-out accuracy fell to nothing while its CoTs began to repeat themselves."""
    rows = healthy_rows()
    for row in rows[8:]:
        row["cot/repetition"] = 0.99
    rows[-1] |= validated(12, 2)
    before, after = answers([i < 10 for i in range(40)]), answers([False] * 40)
    return write_run(folder, rows, validations={0: before, 12: after}, final=(before, after), best_step=6)


def interrupted(folder: Path) -> Source:
    """A run of which there are three steps, validated at its start and at step 2."""
    rows = [validated(0, 40), *healthy_rows()[1:4]]
    rows[2] |= validated(2, 50)
    return write_run(folder, rows, validations={0: answers([False] * 10), 2: answers([True] * 2 + [False] * 8)})


def unvalidated(folder: Path) -> Source:
    """A run that never looked at held-out problems."""
    samples = [{"step": 6, "question": "1 + 1?", "answer": "2", "cot": "It is 2.", "answer_logprob": -0.7}]
    return write_run(folder, healthy_rows()[1:6], lines={"samples.jsonl": samples})
