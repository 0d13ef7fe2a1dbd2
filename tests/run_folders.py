"""Folders as runs leave them, made by hand: settings, log, summary, and evaluation records."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markov_cot.config.loading import by_key, set_value
from markov_cot.config.yaml_files import write_yaml

Rows = Sequence[Mapping[str, Any]]


def make_run(
    folder: Path,
    log: Rows = (),
    *,
    base: float | None = 0.25,
    trained: float | None = None,
    n: int = 4,
    **settings: Any,
) -> Path:
    """Write a run on sums; it has ended where `trained` is given. Settings have `__` for dots."""
    values: dict[str, Any] = {}
    for key, value in {"steps": 8, **by_key(settings)}.items():
        set_value(values, key.replace("__", "."), value)
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(write_yaml(values))
    (folder / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in log))
    if trained is not None:
        scores = {"base": score(base, n), "trained": score(trained, n)}
        (folder / "summary.json").write_text(json.dumps({"step": 8, "best_step": 4, **scores}))
    return folder


def score(accuracy: float | None, n: int) -> dict[str, Any]:
    """A held-out score as summary.json has it; the interval is made up."""
    if accuracy is None:
        return {"n": n, "accuracy": None, "low": 0.0, "high": 0.0, "answer_logprob": -1.5, "f1": None}
    ends = {"low": accuracy / 2, "high": (1 + accuracy) / 2}
    return {"n": n, "accuracy": accuracy, **ends, "answer_logprob": -0.5, "f1": None}


def write_records(
    run: Path,
    scores: Sequence[float],
    *,
    first: int = 0,
    task: str = "sums",
    metric: str = "exact_match",
    checkpoint: str | None = "adapter_8",
    settings: Mapping[str, Any] | None = None,
) -> None:
    """Write the samples of an evaluation, whose items ask for number `first` and those that follow, and its results."""
    folder = run / "eval"
    folder.mkdir(exist_ok=True)
    rows = [
        {
            "doc_id": i,
            "doc": {"question": f"Question {first + i}?"},
            "filter": "anchor",
            metric: value,
            "metrics": [metric],
        }
        for i, value in enumerate(scores)
    ]
    (folder / f"samples_{task}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if checkpoint:
        document = {
            "results": {task: {f"{metric},anchor": sum(scores) / len(scores)}},
            "configs": {task: dict(settings or {})},
            "config": {"model_args": {"checkpoint": f"checkpoints/r/{checkpoint}"}},
            "markov_cot": {task: {"primary": f"{metric},anchor"}},
        }
        (folder / f"results_2026-11-27T10-00-00.00000{len(task) % 10}.json").write_text(json.dumps(document))
