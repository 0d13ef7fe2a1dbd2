"""The kinds of runs that a report may be asked for."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from markov_cot.analysis.report.sources import Source, open_source
from tests.report_documents import stage_documents
from tests.report_runs import answers, collapsed, healthy, interrupted, unvalidated, write_run

ENVIRONMENT = {
    "recipe": "quickstart",
    "base": {"name": "nano", "fingerprint": "0a1b2c"},
    "data": {"name": "arithmetic", "fingerprint": "3d4e"},
    "software": {"torch": "2.13.0", "markov-cot": "0.1.0"},
    "processes": 1,
    "starts": [
        {
            "time": "2026-01-02T03:04:05Z",
            "device": "cpu",
            "device_name": "x86_64",
            "threads": 4,
            "python": "3.11.2",
            "system": "Linux-6.1",
        }
    ],
}
ROLLOUT = {"step": 3, "problem": "p0", "question": "1+1?", "answer": "2", "cot": "\n two", "answer_logprob": -1.0}
ALARM = {"alarm": "kl", "level": "warn", "step": 1234, "since": 1230, "diagnosis": "policy/kl is 3.5 (now step 1234)."}


def everything(folder: Path) -> Source:
    """A run with whatever a report has a place for."""
    before = answers([i < 10 for i in range(40)], subject=lambda i: f"subject {i % 4}", f1=0.5, passage="Read 3 lines.")
    after = answers([i < 30 for i in range(40)], subject=lambda i: f"subject {i % 4}", f1=0.75, choices=["1st", "2nd"])
    after[0]["cot"] = "\nbegins with a line break\r\n and 7\ttabs"
    after[1]["cot"] = "9" * 3000
    return healthy(
        folder,
        validations={0: before, 12: after},
        final=(before, after),
        settings={"seed": 1234, "optim.lr": 2e-5, "data.terms": [4, 4]},
        documents=stage_documents() | {"environment.json": ENVIRONMENT},
        lines={"alarms.jsonl": [ALARM] * 53},
        rollouts={3: [ROLLOUT | {"reward": 0.5, "advantage": -1.25}]},
    )


def continuations(folder: Path) -> Source:
    rows = [{"step": step, "eval/wiki/answer_logprob": -3.0 + step, "policy/kl": 0.1} for step in (0, 1)]
    before, after = (answers([None] * 5, answer_logprob=value) for value in (-3.0, -2.0))
    return write_run(folder, rows, validations={0: before, 1: after}, final=(before, after), best_step=0)


def foreign(folder: Path) -> Source:
    path = folder.with_name("run 7.jsonl")
    metrics = {"Normalized Reward": 0.25, "PPO Ratio": 1.5, "Loss": 0.125}
    path.write_text("".join(json.dumps({"Batch Index": i, "Training Metrics": metrics}) + "\n" for i in range(9)))
    return open_source(str(path), folder)


KINDS: list[Callable[[Path], Source]] = [
    everything,
    healthy,
    collapsed,
    interrupted,
    unvalidated,
    continuations,
    foreign,
]
