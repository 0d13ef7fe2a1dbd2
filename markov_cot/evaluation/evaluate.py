"""`markov-cot eval`: runs a checkpoint, and what it is compared with, over datasets; keeps, compares and reports.

One folder holds all of it: `cache/` with what the models produced, `samples_<dataset>.jsonl`, `results_<time>.json`.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from markov_cot.config.prompt import READER_SETTINGS
from markov_cot.config.schema import Config
from markov_cot.distributed.process_group import ALONE, Processes, join, noticing_loss
from markov_cot.evaluation.loaded_model import LoadedModel, ModelSource, Overrides, read_source
from markov_cot.evaluation.locate import BASE, CheckpointRef, default_name, locate
from markov_cot.evaluation.records import Record
from markov_cot.evaluation.report import TaskReport, as_harness
from markov_cot.evaluation.results import TaskMetrics, compare, outcome
from markov_cot.evaluation.row_writer import writing_rows
from markov_cot.evaluation.runner import GenerationConfig, Runner
from markov_cot.evaluation.sample_rows import sample_rows
from markov_cot.evaluation.shared_log import shared_log, stored_cots
from markov_cot.evaluation.suites import SuiteTask
from markov_cot.evaluation.task import EvalTask, prepare
from markov_cot.models.roles import CRITIC, Role
from markov_cot.utils.errors import UserError
from markov_cot.utils.files import replace_file

FORMAT = 3
"""Of cached records; raised when they would come out differently."""
NOTHING = "none"

AGAIN = "give the same command again, which continues from what is kept"
"""What to do once another process is gone."""

Advance = Callable[[int], None]
Track = Callable[[str, int], Advance]
"""(what is run, number of items) -> function that takes how many more are done."""


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
    task_fields: Mapping[str, Any] = field(default_factory=dict)
    """Fields of every task, a suite's and the default one too."""
    seed: int = 0
    batch: int | None = None
    """Sequences in one forward; the config's `validation.batch` by default."""
    out: Path | None = None
    overrides: Overrides = field(default_factory=Overrides)


@dataclass(frozen=True)
class EvalReport:
    """What an evaluation found and where it is kept."""

    subject: str
    tasks: list[TaskReport]
    document: dict[str, Any]
    """As in the results file."""
    results_file: Path


class Evaluator:
    """A loaded model with its tasks prepared: runs checkpoints of it over them."""

    def __init__(
        self,
        request: Request,
        source: ModelSource,
        others: Sequence[ModelSource] = (),
        processes: Processes = ALONE,
    ) -> None:
        self.request, self.source, self.processes = request, source, processes
        tasks = request.tasks or (source.default_task(),)
        self.tasks = tuple(task.model_copy(update=dict(request.task_fields)) for task in tasks)
        if direct := next((task for task in self.tasks if task.direct), None):
            raise UserError(
                f"task {direct.title}: is asked directly, without a CoT; markov-cot forgetting --suite measures that"
            )
        configs = [source.config(task) for task in self.tasks]
        self.subject = LoadedModel(source, configs[0])
        self.workloads = [
            prepare(self.subject, task, config, request.seed, [other.config(task) for other in others])
            for task, config in zip(self.tasks, configs, strict=True)
        ]
        self.folder = request.out or eval_folder(source.ref, request.overrides, configs[0].model.name)

    def run(
        self, work: EvalTask, subject: LoadedModel, source: ModelSource, track: Track, baseline: Sequence[Record] = ()
    ) -> list[Record]:
        """Return the records of a task's items by `source`, whose adapter `subject` holds; cached ones are kept.

        Those of comparisons are followed by as many of the same ones in the other order.
        `baseline` may hold the base's records of the same items. The processes share the items; each gets all records.
        """
        config = source.config(work.task)
        writing = writing_of(work.task, config, self.request.seed, source.writer)
        greedy = writing.temperature is None
        known = {record.index: record.samples[0].answer_logprob for record in baseline} if greedy else {}
        settings = cache_settings(work, subject, source, writing, config)
        written = stored_cots(self.folder / "cache", settings, self.processes)
        runner = Runner(subject.policy, subject.readers(config), writing, known, written)
        items = [*work.items, *work.mirrored]
        advance = track(f"{work.task.title}, {source.ref.name}", len(items))
        with shared_log(self.folder / "cache", settings, self.processes) as log:
            return runner.run(items, log, self.request.batch or config.validation.batch, advance, self.processes)

    def outcome(self, work: EvalTask, records: Sequence[Record]) -> TaskMetrics:
        """Metrics of the records that `run` returned of a task."""
        n = len(work.items)
        other = work.other_order(records[n:])
        return outcome(work.items, records[:n], work.extractors, work.config.reward.reduction, other)


@contextmanager
def processes_of(request: Request) -> Iterator[Processes]:
    """Give the processes that share an evaluation: those that a launcher started, or this one alone.

    Raises `PeerLostError` when one of them is gone.
    """
    with noticing_loss("eval", AGAIN):
        yield join(cpu=request.overrides.on_cpu, command="eval")


def evaluate(request: Request, track: Track, say: Callable[[str], None]) -> EvalReport:
    """Evaluate a checkpoint, in all processes of a launcher together; the first one writes the files.

    `say` gets what a name turned out to stand for. Raises `UserError`, in all of them.
    """
    with processes_of(request) as processes:
        with processes.together():
            source = find_source(request, request.checkpoint, say)
            against = request.against or (NOTHING if source.ref.folder is None else BASE)
            reference = None if against == NOTHING else reference_source(request, source, against, say)
            evaluator = Evaluator(request, source, [reference] if reference else [], processes)
        return _evaluate(evaluator, reference, track)


def _evaluate(evaluator: Evaluator, reference: ModelSource | None, track: Track) -> EvalReport:
    source, processes = evaluator.source, evaluator.processes
    theirs: list[list[Record]] = [[] for _ in evaluator.workloads]
    if reference and reference.ref.folder is None:
        theirs = [evaluator.run(work, evaluator.subject, reference, track) for work in evaluator.workloads]
    is_base = reference is not None and reference.ref.folder is None
    ours = [
        evaluator.run(work, evaluator.subject, source, track, records if is_base else ())
        for work, records in zip(evaluator.workloads, theirs, strict=True)
    ]
    if reference and not is_base:
        with processes.together():
            other = other_subject(evaluator, reference)
        theirs = [evaluator.run(work, other, reference, track) for work in evaluator.workloads]
    with processes.together(), refusing_to_write(evaluator.folder):
        reports = [
            _report(evaluator, work, records, reference, others)
            for work, records, others in zip(evaluator.workloads, ours, theirs, strict=True)
        ]
        return _write(evaluator, reports)


def find_source(request: Request, name: str | None, say: Callable[[str], None]) -> ModelSource:
    """The checkpoint a name stands for, checked."""
    checkpoints_dir = request.overrides.folder("checkpoints_dir")
    name = name or default_name(request.run, checkpoints_dir)
    ref = locate(name, request.run, checkpoints_dir)
    if ref.folder is not None and ref.describe() != name:
        say(f"{name} is {ref.folder}")
    return read_source(ref, request.overrides)


def reference_source(request: Request, source: ModelSource, against: str, say: Callable[[str], None]) -> ModelSource:
    """What `source` is compared with: its own base under its own settings, or another checkpoint under its own."""
    if against == BASE:
        if source.ref.folder is None:
            raise UserError("--against base: is what is evaluated; name another checkpoint")
        return replace(source, ref=CheckpointRef(BASE, None, source.ref.run), checksums={})
    return find_source(replace(request, run=request.run or source.ref.run), against, say)


def writing_of(task: SuiteTask, config: Config, seed: int, writer: Role) -> GenerationConfig:
    """How a task's CoTs are written: greedy, or sampled at the task's or the run's temperature."""
    temperature = task.temperature
    if temperature is None and task.samples > 1:
        temperature = config.rollout.temperature
    return GenerationConfig(config.rollout.length, task.samples, temperature, seed, writer)


def eval_folder(ref: CheckpointRef, overrides: Overrides, model: str) -> Path:
    """Where an evaluation is kept: with its run, or in `base-<model>` for the base of no run."""
    name = ref.run
    if name is None:
        name = ref.name if ref.folder else f"{BASE}-{file_name(Path(model).name)}"
    return overrides.folder("runs_dir") / name / "eval"


@contextmanager
def refusing_to_write(folder: Path) -> Iterator[None]:
    """Within it what the system refuses to write into `folder` is a `UserError`."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{error.filename or folder}: cannot be written ({error.strerror}); free space, or pass --out FOLDER"
        ) from None


def file_name(text: str) -> str:
    """`text` with all that may not stand in a file's name replaced."""
    return re.sub(r"[^\w.-]+", "-", text)


def model_settings(subject: LoadedModel, source: ModelSource, *, four_bit: bool) -> dict[str, Any]:
    """All of a model that what it gives depends on."""
    return {
        **({"adapter_parts": subject.adapter_parts} if subject.adapter_parts else {}),
        **({"critic": subject.critic} if subject.critic else {}),
        "checkpoint": source.ref.name,
        "checkpoint_files": source.checksums,
        "base": subject.base["name"],
        "base_fingerprint": subject.base["fingerprint"],
        "dtype": subject.dtype,
        "device": subject.device.type,
        "four_bit": four_bit,
    }


def cache_settings(
    work: EvalTask, subject: LoadedModel, source: ModelSource, writing: GenerationConfig, config: Config
) -> dict[str, Any]:
    """All that a task's records depend on. How many are computed at once is not part of it."""
    sampled = writing.temperature is not None
    return {
        **model_settings(subject, source, four_bit=config.model.four_bit),
        "format": FORMAT,
        "dataset": work.splits.name,
        "data": work.splits.fingerprint(),
        "split": work.task.split,
        "items": work.items_fingerprint(),
        "length": writing.length,
        "samples": writing.samples,
        "temperature": writing.temperature,
        "seed": writing.seed if sampled else None,
        "prompt": config.prompt.model_dump(mode="json", exclude=set(READER_SETTINGS)),
        "reader_prompt": config.prompt.model_dump(mode="json", include=set(READER_SETTINGS)),
        "readers": subject.about_readers(config, is_base=source.writer == CRITIC),
        "reduction": config.reward.reduction,
        "combine": config.reward.combine,
        "answers": config.reward.answers,
    }


def other_subject(evaluator: Evaluator, reference: ModelSource) -> LoadedModel:
    """The reference's own model; it must read the same tokens, or its items would not be the same."""
    other = LoadedModel(reference, reference.config(evaluator.tasks[0]))
    if other.base["fingerprint"] != evaluator.subject.base["fingerprint"]:
        raise UserError(
            f"--against {reference.ref.describe()}: is of another base ({other.base['name']}) than "
            f"{evaluator.source.ref.describe()}; compare checkpoints of one base"
        )
    return other


def _report(
    evaluator: Evaluator, work: EvalTask, records: list[Record], reference: ModelSource | None, theirs: list[Record]
) -> TaskReport:
    """Metrics of one task, and its samples on disk."""
    ours = evaluator.outcome(work, records)
    other = evaluator.outcome(work, theirs) if reference else None
    path = evaluator.folder / f"samples_{file_name(work.task.title)}.jsonl"
    if evaluator.processes.is_first:
        with writing_rows(path) as write:
            n = len(work.items)
            other_order = work.other_order(records[n:])
            for row in sample_rows(work.items, records[:n], work.extractors, ours.scores, other_order):
                write(row)
    writing = writing_of(work.task, work.config, evaluator.request.seed, evaluator.source.writer)
    return TaskReport(
        name=work.task.title,
        outcome=ours,
        settings={
            **cache_settings(work, evaluator.subject, evaluator.source, writing, work.config),
            "data": work.config.data.model_dump(mode="json"),
            "limit": work.task.limit,
            "output_type": "generate_until",
        },
        original=work.total,
        too_long=work.too_long,
        broken=work.splits.skipped,
        source=work.splits.source,
        note=work.splits.note,
        against=reference.ref.name if reference else None,
        reference=other,
        paired=compare(other, ours) if other else {},
        samples_file=str(path),
    )


def _write(evaluator: Evaluator, tasks: list[TaskReport]) -> EvalReport:
    request, ref = evaluator.request, evaluator.source.ref
    base = {key: value for key, value in evaluator.subject.base.items() if key in ("revision", "commit")}
    config = {
        "model_args": {
            "checkpoint": ref.describe(),
            "run": ref.run,
            "model": evaluator.subject.base["name"],
            **base,
        },
        "batch_size": request.batch,
        "seed": request.seed,
    }
    document = as_harness(tasks, config, time.time())
    path = evaluator.folder / f"results_{datetime.now(UTC):%Y-%m-%dT%H-%M-%S.%f}.json"
    if evaluator.processes.is_first:
        replace_file(path, (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode())
    return EvalReport(ref.name, tasks, document, path)
