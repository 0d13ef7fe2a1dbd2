"""Evaluations that tests/integration/test_shared_evaluation.py makes with one process and with two (two_ranks.py)."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from markov_cot.evaluation.evaluate import EvalReport, Request, evaluate
from markov_cot.evaluation.learning_curve import evaluate_all
from markov_cot.evaluation.loaded_model import Overrides
from markov_cot.evaluation.runner import Runner
from markov_cot.evaluation.suites import SuiteTask
from markov_cot.models import loading as models
from markov_cot.rollouts import sampler
from markov_cot.utils.errors import UserError
from markov_cot.utils.files import AppendFile
from tests.process_cases import in_float64
from tests.small_runs import FULL

TASK = {"limit": 12}
CASES: dict[str, dict[str, Any]] = {
    # Batches as one process makes them: the cache is the same to the last byte.
    "batches": {"batch": 4},
    # Fewer than a batch: each process gets a part of them.
    "few": {"task_fields": {"limit": 5}, "batch": 64},
    "single": {"task_fields": {"limit": 1}},
    "sampled": {"task_fields": {"limit": 6, "samples": 3, "temperature": 0.9}, "batch": 6},
    "choices": {"tasks": (SuiteTask(dataset="choices.jsonl"), SuiteTask(dataset="words")), "batch": 4},
    "checkpoints": {"checkpoint": "adapter_4", "against": "adapter_2", "batch": 4},
    "resumed": {"batch": 4},
    "out of memory": {"batch": 4},
    "all": {"task_fields": {"limit": 6}},
    "refused": {},
    "different": {},
    "full": {},
}
COMPARED = ("batches", "few", "single", "sampled", "choices", "checkpoints", "out of memory")


def request_of(case: str, out: str) -> Request:
    """On the CPU in float64, written to a folder of the case's own in `out`."""
    overrides = Overrides(settings={"model.device": "cpu", "model.dtype": "float64"})
    values = {"task_fields": TASK, "run": "r", "overrides": overrides, "out": Path(out, case.replace(" ", "-"))}
    return Request(**values | CASES[case])


def run_case(case: str, out: str) -> Any:
    """One process's part of an evaluation; what it has to say of it, as JSON."""
    rank = int(os.environ.get("RANK", "0"))
    request = request_of(case, out)
    advanced: list[int] = []
    if case == "all":
        _, curves = evaluate_all(request, lambda *_: advanced.append, lambda _: None)
        return {"curves": [curve.as_json() for curve in curves], "items": sum(advanced)}
    with pytest.MonkeyPatch.context() as patch:
        if case == "different":
            request = replace(request, seed=rank)
        if case == "refused" and rank == 1:
            patch.setattr(models, "load_base", _refuses)
        if case == "full" and rank == 0:
            patch.setattr(AppendFile, "_write", _no_space)
        if case == "out of memory" and rank == 1:
            patch.setattr(sampler, "greedy_cots", _limited(sampler.greedy_cots))
        computed: list[int] = []
        records = Runner.records
        patch.setattr(
            Runner, "records", lambda self, part: computed.extend(i.index for i in part) or records(self, part)
        )
        try:
            report = evaluate(request, lambda *_: advanced.append, lambda _: None)
        except UserError as error:
            return str(error)
    return {"results": results(report), "computed": computed, "items": sum(advanced)}


def results(report: EvalReport) -> Any:
    """All numbers that are reported, by dataset."""
    return {task: report.document["markov_cot"][task] for task in report.document["results"]}


def _refuses(*_: Any) -> None:
    raise UserError("model nothing: cannot be loaded")


def _no_space(_: AppendFile) -> None:
    raise FULL


def _limited(work: Any) -> Any:
    def limited(policy: Any, contexts: Sequence[Any], *rest: Any) -> Any:
        if len(contexts) > 2:
            raise MemoryError
        return work(policy, contexts, *rest)

    return limited


def main(workplace: Path, cases: list[str]) -> None:
    """Runs the cases in the workplace and writes what this process says of each."""
    os.chdir(workplace)
    with in_float64(), pytest.MonkeyPatch.context() as patch:
        patch.setattr("markov_cot.models.memory.SMALLEST", 1)
        said = {case: run_case(case, "two") for case in cases}
    Path(f"rank{os.environ['RANK']}.json").write_text(json.dumps(said))
