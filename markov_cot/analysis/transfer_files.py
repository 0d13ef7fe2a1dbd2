"""What a transfer analysis leaves in `runs/<run>/analysis/`: a JSON document and a plot."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from markov_cot.analysis.plotting import Curve, save_curves
from markov_cot.analysis.transfer import Transfer
from markov_cot.evaluation.evaluate import file_name, refusing_to_write
from markov_cot.evaluation.statistics import Estimate
from markov_cot.utils.files import replace_file

FORMAT = 1


def as_json(found: Transfer, seed: int) -> dict[str, Any]:
    """Return the document."""
    work = found.work
    return {
        "format": FORMAT,
        "run": found.run,
        "dataset": work.splits.name,
        "split": work.task.split,
        "n": len(work.items),
        "items": work.items_fingerprint(),
        "seed": seed,
        "steps": sorted(found.held_out),
        "readers": {
            name: {
                "informativeness": _series(found.held_out, name),
                "answer_logprob": _series(found.logprob, name),
                "training": _series(found.training, name),
            }
            for name in found.readers
        },
        "spearman": [
            {"readers": list(each.readers), "rho": each.rho, "low": each.low, "high": each.high}
            for each in found.correlations
        ],
    }


def write(found: Transfer, document: Mapping[str, Any]) -> list[Path]:
    """Write the files. Raises `UserError` where they cannot be written."""
    name = file_name("-".join(["transfer", found.work.task.title, *found.readers[1:]]))
    paths = [found.folder / f"{name}.json", found.folder / f"{name}.png"]
    n = len(found.work.items)
    curves = [_curve(f"{reader}, {n} held-out items", found.held_out, reader) for reader in found.readers]
    if found.training:
        curves += [_curve(f"{reader}, training", found.training, reader) for reader in found.readers]
    with refusing_to_write(found.folder):
        replace_file(paths[0], (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode())
        title = f"{found.run} on {found.work.task.title}"
        save_curves(paths[1], curves, title, "step (0: untrained base)", "informativeness (nats per answer token)")
    return paths


def _series(by_step: Mapping[int, Mapping[str, Estimate]], reader: str) -> list[dict[str, Any]]:
    return [
        {"step": step, "n": of[reader].n, "mean": of[reader].mean, "low": of[reader].low, "high": of[reader].high}
        for step, of in sorted(by_step.items())
    ]


def _curve(name: str, by_step: Mapping[int, Mapping[str, Estimate]], reader: str) -> Curve:
    steps = sorted(by_step)
    estimates = [by_step[step][reader] for step in steps]
    lows = [each.mean if each.low is None else each.low for each in estimates]
    highs = [each.mean if each.high is None else each.high for each in estimates]
    return Curve(name, steps, [each.mean for each in estimates], lows, highs)
