"""`markov-cot eval`: runs a checkpoint, and what it is compared with, over datasets; keeps, compares and reports.

One folder holds all of it: `cache/` with what the models produced, `samples_<dataset>.jsonl`, `results_<time>.json`.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from markov_cot.config.schema import Config
from markov_cot.evaluation.loaded_model import Source, Subject, Wishes, read_source
from markov_cot.evaluation.locate import BASE, Located, default_name, locate
from markov_cot.evaluation.record_log import RecordLog
from markov_cot.evaluation.records import Record
from markov_cot.evaluation.report import TaskReport, as_harness
from markov_cot.evaluation.results import Outcome, compare, outcome
from markov_cot.evaluation.row_writer import writing_rows
from markov_cot.evaluation.runner import Runner, Writing
from markov_cot.evaluation.sample_rows import sample_rows
from markov_cot.evaluation.suites import SuiteTask
from markov_cot.evaluation.task import Workload, make_prompts, prepare
from markov_cot.utils.errors import UserError

FORMAT = 1
"""Of cached records; raised when they would come out differently."""
NOTHING = "none"
ACTOR, CRITIC = "actor", "critic"

Advance = Callable[[int], None]
Track = Callable[[str, int], Advance]
"""(what is run, number of items) -> function that is told how many more are done."""


@dataclass(frozen=True, slots=True)
class Request:
    """What the command line asks for."""

    checkpoint: str | None = None
    """As `locate.locate` takes it; None is the run's best, or its latest when it has no best."""
    run: str | None = None
    against: str | None = None
    """A checkpoint's name, "base", or "none"; by default the base, for anything but the base."""
    tasks: tuple[SuiteTask, ...] = ()
    """The dataset trained on when there are none."""
    overrides: Mapping[str, Any] = field(default_factory=dict)
    """Fields of every task, a suite's and the default one too."""
    seed: int = 0
    batch: int | None = None
    """Sequences in one forward; the config's `validation.batch` by default."""
    out: Path | None = None
    wishes: Wishes = field(default_factory=Wishes)


@dataclass(frozen=True)
class Report:
    """What an evaluation found and where it is kept."""

    subject: str
    tasks: list[TaskReport]
    document: dict[str, Any]
    """As in the results file."""
    results_file: Path


class Workbench:
    """A loaded model with its tasks prepared: runs checkpoints of it over them."""

    def __init__(self, request: Request, source: Source, others: Sequence[Source] = ()) -> None:
        self.request, self.source = request, source
        tasks = request.tasks or (source.default_task(),)
        self.tasks = tuple(task.model_copy(update=dict(request.overrides)) for task in tasks)
        configs = [source.config(task) for task in self.tasks]
        self.subject = Subject(source, configs[0])
        self.workloads = [
            prepare(self.subject, task, config, request.seed, [other.config(task) for other in others])
            for task, config in zip(self.tasks, configs, strict=True)
        ]
        self.folder = request.out or eval_folder(source.located, request.wishes, configs[0].model.name)

    def run(
        self, work: Workload, subject: Subject, source: Source, track: Track, baseline: Sequence[Record] = ()
    ) -> list[Record]:
        """Records of a task's items by `source`, whose adapter `subject` holds; cached ones are not made again.

        `baseline` may hold the base's records of the same items.
        """
        config = source.config(work.task)
        writing = writing_of(work.task, config, self.request.seed, CRITIC if source.located.folder is None else ACTOR)
        greedy = writing.temperature is None
        known = {record.index: record.samples[0].answer_logprob for record in baseline} if greedy else {}
        runner = Runner(subject.policy, make_prompts(subject, config), config.reward, writing, known)
        settings = cache_settings(work, subject, source, writing, config)
        advance = track(f"{work.task.title}, {source.located.name}", len(work.items))
        with RecordLog(self.folder / "cache", settings) as log:
            return runner.run(work.items, log, self.request.batch or config.validation.batch, advance)

    def outcome(self, work: Workload, records: Sequence[Record]) -> Outcome:
        """Metrics of records of a task."""
        return outcome(work.items, records, work.extractors, work.config.reward.reduction)


def evaluate(request: Request, track: Track, say: Callable[[str], None]) -> Report:
    """Evaluates a checkpoint. `say` is told what a name turned out to stand for. Raises `UserError`."""
    source = find_source(request, request.checkpoint, say)
    against = request.against or (NOTHING if source.located.folder is None else BASE)
    reference = None if against == NOTHING else reference_source(request, source, against, say)
    bench = Workbench(request, source, [reference] if reference else [])
    theirs: list[list[Record]] = [[] for _ in bench.workloads]
    if reference and reference.located.folder is None:
        theirs = [bench.run(work, bench.subject, reference, track) for work in bench.workloads]
    is_base = reference is not None and reference.located.folder is None
    ours = [
        bench.run(work, bench.subject, source, track, records if is_base else ())
        for work, records in zip(bench.workloads, theirs, strict=True)
    ]
    if reference and not is_base:
        other = _other_subject(bench, reference)
        theirs = [bench.run(work, other, reference, track) for work in bench.workloads]
    reports = [
        _report(bench, work, records, reference, others)
        for work, records, others in zip(bench.workloads, ours, theirs, strict=True)
    ]
    return _write(bench, reports)


def find_source(request: Request, name: str | None, say: Callable[[str], None]) -> Source:
    """The checkpoint a name stands for, checked."""
    checkpoints_dir = request.wishes.folder("checkpoints_dir")
    name = name or default_name(request.run, checkpoints_dir)
    located = locate(name, request.run, checkpoints_dir)
    if located.folder is not None and located.describe() != name:
        say(f"{name} is {located.folder}")
    return read_source(located, request.wishes)


def reference_source(request: Request, source: Source, against: str, say: Callable[[str], None]) -> Source:
    """What `source` is compared with: its own base under its own settings, or another checkpoint under its own."""
    if against == BASE:
        if source.located.folder is None:
            raise UserError("--against base: is what is evaluated; name another checkpoint")
        return replace(source, located=Located(BASE, None, source.located.run), checksums={})
    return find_source(replace(request, run=request.run or source.located.run), against, say)


def writing_of(task: SuiteTask, config: Config, seed: int, writer: str) -> Writing:
    """How a task's CoTs are written: greedy, or sampled at the task's or the run's temperature."""
    temperature = task.temperature
    if temperature is None and task.samples > 1:
        temperature = config.rollout.temperature
    return Writing(config.rollout.length, task.samples, temperature, seed, writer)


def eval_folder(located: Located, wishes: Wishes, model: str) -> Path:
    """Where an evaluation is kept: with its run, or in `base-<model>` for the base of no run."""
    name = located.run
    if name is None:
        name = located.name if located.folder else f"{BASE}-{file_name(Path(model).name)}"
    return wishes.folder("runs_dir") / name / "eval"


def file_name(text: str) -> str:
    """`text` with all that may not stand in a file's name replaced."""
    return re.sub(r"[^\w.-]+", "-", text)


def cache_settings(
    work: Workload, subject: Subject, source: Source, writing: Writing, config: Config
) -> dict[str, Any]:
    """All that a task's records depend on. How many are computed at once is not part of it."""
    sampled = writing.temperature is not None
    return {
        **({"adapter_parts": subject.adapter_parts} if subject.adapter_parts else {}),
        "format": FORMAT,
        "checkpoint": source.located.name,
        "checkpoint_files": source.checksums,
        "base": subject.base["name"],
        "base_fingerprint": subject.base["fingerprint"],
        "dtype": subject.dtype,
        "device": subject.device.type,
        "four_bit": config.model.four_bit,
        "dataset": work.splits.name,
        "split": work.task.split,
        "items": work.items_fingerprint(),
        "length": writing.length,
        "samples": writing.samples,
        "temperature": writing.temperature,
        "seed": writing.seed if sampled else None,
        "markovian": config.prompt.markovian,
        "chat": config.prompt.chat,
        "answerer": CRITIC if source.located.folder is None else config.reward.answerer,
        "reduction": config.reward.reduction,
    }


def _other_subject(bench: Workbench, reference: Source) -> Subject:
    """The reference's own model; it must read the same tokens, or its items would not be the same."""
    other = Subject(reference, reference.config(bench.tasks[0]))
    if other.base["fingerprint"] != bench.subject.base["fingerprint"]:
        raise UserError(
            f"--against {reference.located.describe()}: is of another base ({other.base['name']}) than "
            f"{bench.source.located.describe()}; compare checkpoints of one base"
        )
    return other


def _report(
    bench: Workbench, work: Workload, records: list[Record], reference: Source | None, theirs: list[Record]
) -> TaskReport:
    """Metrics of one task, and its samples on disk."""
    ours = bench.outcome(work, records)
    other = bench.outcome(work, theirs) if reference else None
    path = bench.folder / f"samples_{file_name(work.task.title)}.jsonl"
    with writing_rows(path) as write:
        for row in sample_rows(work.items, records, work.extractors, ours.scores):
            write(row)
    writer = CRITIC if bench.source.located.folder is None else ACTOR
    writing = writing_of(work.task, work.config, bench.request.seed, writer)
    return TaskReport(
        name=work.task.title,
        outcome=ours,
        settings={
            **cache_settings(work, bench.subject, bench.source, writing, work.config),
            "data": work.config.data.model_dump(mode="json"),
            "limit": work.task.limit,
            "output_type": "generate_until",
        },
        original=work.total,
        too_long=work.too_long,
        broken=work.splits.skipped,
        source=work.splits.source,
        note=work.splits.note,
        against=reference.located.name if reference else None,
        reference=other,
        paired=compare(other, ours) if other else {},
        samples_file=str(path),
    )


def _write(bench: Workbench, tasks: list[TaskReport]) -> Report:
    request, located = bench.request, bench.source.located
    base = {key: value for key, value in bench.subject.base.items() if key in ("revision", "commit")}
    config = {
        "model_args": {
            "checkpoint": located.describe(),
            "run": located.run,
            "model": bench.subject.base["name"],
            **base,
        },
        "batch_size": request.batch,
        "seed": request.seed,
    }
    document = as_harness(tasks, config, time.time())
    path = bench.folder / f"results_{datetime.now(UTC):%Y-%m-%dT%H-%M-%S.%f}.json"
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return Report(located.name, tasks, document, path)
