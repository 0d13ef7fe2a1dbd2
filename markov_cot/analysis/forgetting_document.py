"""The JSON document of what was forgotten."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from markov_cot.analysis.forgetting import ALPHA, Comparison, Forgetting, TaskComparison
from markov_cot.analysis.score_files import Side
from markov_cot.utils.files import replace_file

FORMAT = 1


def as_json(found: Forgetting, *, seed: int | None = None, made: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the document: shares in [0, 1], differences after less before, null for what is not defined.

    `seed` drew the items, and `made` says how they were scored, where this command did it.
    """
    sizes = [task.n for task in found.tasks.values()]
    return {
        "format": FORMAT,
        "n": None if None in sizes else sum(size for size in sizes if size is not None),
        "seed": seed,
        "verdict": found.verdict,
        "settings": {
            "margin_points": found.margins.points,
            "loss_margin": found.margins.nats,
            "level": 95.0,
            "alpha": ALPHA,
            **(made or {}),
        },
        "before": _side(found.before),
        "after": _side(found.after),
        "tasks": {name: _task(task) for name, task in found.tasks.items()},
        "flags": [asdict(flag) for flag in found.flags],
        "notes": list(found.notes),
    }


def write(document: Mapping[str, Any], folder: Path) -> Path:
    """Write the document of a comparison that was made here. Raises `UserError` where it cannot be written."""
    # It comes with torch, which files can be compared without.
    from markov_cot.evaluation.evaluate import file_name, refusing_to_write

    made = document["settings"]
    path = folder / f"{file_name('-'.join(['forgetting', Path(made['suite']).stem, made['checkpoint']]))}.json"
    with refusing_to_write(folder):
        replace_file(path, (json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode())
    return path


def _side(side: Side) -> dict[str, Any]:
    files = [{"file": str(each.path), "sha256": each.sha256, "rows": each.rows} for each in side.files]
    return {"path": str(side.path), "files": files}


def _task(task: TaskComparison) -> dict[str, Any]:
    return {
        "n": task.n,
        "metric": task.primary.metric,
        "verdict": task.verdict,
        "metrics": {key: _metric(each) for key, each in task.metrics.items()},
    }


def _metric(found: Comparison) -> dict[str, Any]:
    change = asdict(found.change)
    return {
        **{key: change.pop(key) for key in ("paired", "n")},
        "counts": found.counts,
        "higher_is_better": found.higher_is_better,
        "is_share": found.is_share,
        "margin": found.margin,
        **{("p" if key == "p_value" else key): value for key, value in change.items()},
        "p_holm": found.p_holm,
        "verdict": found.verdict,
    }
