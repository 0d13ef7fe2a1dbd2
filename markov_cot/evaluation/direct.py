"""Asks a checkpoint and what it was before the same questions directly, and keeps what they gave.

Each side has a folder of its own with samples and results in lm-evaluation-harness's layout; `cache/` holds what was
computed, so that the same request continues where it was interrupted.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from markov_cot.config.schema import Config
from markov_cot.data.problem import Problem
from markov_cot.evaluation.direct_records import (
    DIRECT,
    HIGHER_IS_BETTER,
    PRIMARY,
    DirectRecord,
    item_scores,
    sample_rows,
)
from markov_cot.evaluation.direct_scoring import DirectScorer
from markov_cot.evaluation.direct_tasks import VERSION, DirectTask, prepare_direct
from markov_cot.evaluation.evaluate import (
    Request,
    Track,
    eval_folder,
    file_name,
    find_source,
    model_settings,
    reference_source,
    refusing_to_write,
)
from markov_cot.evaluation.item_log import ItemLog
from markov_cot.evaluation.loaded_model import LoadedModel, ModelSource, Overrides
from markov_cot.evaluation.locate import BASE
from markov_cot.evaluation.row_writer import writing_rows
from markov_cot.evaluation.statistics import mean_and_stderr
from markov_cot.evaluation.suites import Suite, SuiteTask, read_suite
from markov_cot.rollouts.path_check import check_paths, trial_of
from markov_cot.utils.errors import UserError
from markov_cot.utils.files import replace_file

BATCH = 16
"""Items at a time."""


@dataclass(frozen=True, slots=True)
class DirectRequest:
    """What the command line asks for."""

    checkpoint: str | None = None
    """As in `evaluate.Request`."""
    run: str | None = None
    suite: str = "general"
    limit: int | None = None
    """Items of each task; the suite's by default."""
    seed: int | None = None
    """The suite's by default."""
    names: Sequence[str] = ()
    """Tasks of the suite to run; all by default."""
    out: Path | None = None
    overrides: Overrides = field(default_factory=Overrides)


@dataclass(frozen=True, slots=True)
class BothSides:
    """Where both sides are kept."""

    before: Path
    after: Path
    tasks: Sequence[str]
    seed: int
    about: Mapping[str, Any]
    """What was asked, of whom."""
    folder: Path | None
    """Where analyses of the checkpoint's run are kept; None for a checkpoint of no run."""


def measure_both(request: DirectRequest, track: Track, say: Callable[[str], None]) -> BothSides:
    """Ask a checkpoint and its base the suite's questions, and write what they gave. Raises `UserError`."""
    suite = read_suite(request.suite)
    tasks, seed = chosen_tasks(suite, request), suite.seed if request.seed is None else request.seed
    asked = Request(request.checkpoint, request.run, overrides=request.overrides)
    source = find_source(asked, request.checkpoint, say)
    if source.ref.folder is None:
        raise UserError("--checkpoint base: is what a checkpoint is compared with; name a checkpoint")
    base = reference_source(asked, source, BASE, say)
    subject = LoadedModel(source, source.config(tasks[0]))
    if subject.critic:
        say("before is the adapter that the run started from, not the base without it")
    work = [prepare_direct(task, source.config(task).data, seed, subject.tokenizer) for task in tasks]
    for task in work:
        if task.note:
            say(f"{task.task.title}: {task.note}")
    _check(subject, source.config(tasks[0]), work)
    folder = request.out or eval_folder(source.ref, request.overrides, subject.base["name"]).parent / "analysis"
    sides = [_Side(subject, each, folder, file_name(Path(request.suite).stem)) for each in (base, source)]
    with refusing_to_write(folder):
        for side in sides:
            side.measure(work, track)
    about = {
        "suite": request.suite,
        "limit": request.limit,
        "run": source.ref.run,
        "checkpoint": source.ref.name,
        "checkpoint_files": source.checksums,
        "base": subject.base,
        "dtype": subject.dtype,
        "device": subject.device.type,
    }
    run = source.ref.run
    analysis = request.overrides.folder("runs_dir") / run / "analysis" if run else None
    return BothSides(sides[0].folder, sides[1].folder, [task.title for task in tasks], seed, about, analysis)


def chosen_tasks(suite: Suite, request: DirectRequest) -> list[SuiteTask]:
    """Return the tasks that a request names, with its limit. Raises `UserError` for one that is not in the suite."""
    titles = [task.title for task in suite.tasks]
    if unknown := [name for name in request.names if name not in titles]:
        raise UserError(f"--task {unknown[0]}: is not in suite {request.suite}; it has {', '.join(titles)}")
    limit = {} if request.limit is None else {"limit": request.limit}
    return [task.model_copy(update=limit) for task in suite.tasks if not request.names or task.title in request.names]


class _Side:
    """The actor of a checkpoint, or the base."""

    def __init__(self, subject: LoadedModel, source: ModelSource, folder: Path, suite: str) -> None:
        self._subject, self._source = subject, source
        self._cache = folder / "cache"
        self._scorer = DirectScorer(subject.policy, subject.budgets, source.writer)
        self._suite = suite
        self.folder = folder / suite / file_name(source.ref.name)

    def measure(self, work: Sequence[DirectTask], track: Track) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        results, configs = {}, {}
        for task in work:
            title, settings = task.task.title, self._settings(task)
            with ItemLog(self._cache, settings, DIRECT) as log:
                advance = track(f"{title}, {self._source.ref.name}", len(task.items))
                records = self._scorer.run(task.items, log, BATCH, advance)
            with writing_rows(self.folder / f"samples_{file_name(title)}.jsonl") as write:
                for item, record in zip(task.items, records, strict=True):
                    for row in sample_rows(task.form, item, record):
                        write(row)
            results[title] = totals(task, records)
            configs[title] = {"task": title, "num_fewshot": task.task.shots, **settings, **_cut(records)}
        document = {
            "results": results,
            "configs": configs,
            "versions": {task.task.title: VERSION for task in work},
            "n-shot": {task.task.title: task.task.shots for task in work},
            "n-samples": {task.task.title: {"original": task.total, "effective": len(task.items)} for task in work},
            "higher_is_better": {task.task.title: HIGHER_IS_BETTER for task in work},
            "config": {"model": "markov-cot", "model_args": {"checkpoint": self._source.ref.describe()}},
            "date": time.time(),
            "markov_cot": {
                task.task.title: {"primary": PRIMARY[task.form], "source": task.source, "note": task.note}
                for task in work
            },
        }
        text = json.dumps(document, indent=1, ensure_ascii=False) + "\n"
        replace_file(self.folder / f"results_{self._suite}.json", text.encode())

    def _settings(self, task: DirectTask) -> dict[str, Any]:
        """All that a task's records depend on. How many are computed at once is not part of it."""
        subject, source = self._subject, self._source
        return {
            **model_settings(subject, source, four_bit=source.model().four_bit),
            "of": "direct",
            "direct_format": VERSION,
            "dataset": task.task.dataset,
            "split": task.split,
            "direct": task.form,
            "items": task.fingerprint(),
        }


def totals(task: DirectTask, records: Sequence[DirectRecord]) -> dict[str, Any]:
    """Return a task's totals in lm-evaluation-harness's layout."""
    scores = [item_scores(task.form, item, record) for item, record in zip(task.items, records, strict=True)]
    found: dict[str, Any] = {"alias": task.task.title, "sample_len": len(records)}
    for key in scores[0]:
        name, of = key.split(",")
        mean, stderr = mean_and_stderr([each[key] for each in scores])
        found |= {key: mean, f"{name}_stderr,{of}": "N/A" if stderr is None else stderr}
    return found


def _cut(records: Sequence[DirectRecord]) -> dict[str, int]:
    """How many prompts did not fit into the model's context."""
    cut = sum(record.cut > 0 for record in records)
    return {"cut": cut} if cut else {}


def _check(subject: LoadedModel, config: Config, work: Sequence[DirectTask]) -> None:
    """Before the first items: makes sure that what is computed is what the model computes."""
    problems = [[item.problem for item in task.items] for task in work]
    prompts, length = subject.prompts(config.prompt), config.rollout.length

    def fits(problem: Problem) -> bool:
        answer = prompts.answer_context(problem, [0] * length)
        longest = max(len(prompts.question_context(problem)) + length, len(answer.ids) + len(answer.answer_ids))
        return longest <= subject.policy.max_length

    if trial := trial_of(prompts, problems, length, fits, trains=False):
        check_paths(subject.policy, trial)
