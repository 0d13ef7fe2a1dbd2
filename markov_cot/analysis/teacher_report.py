"""From teachers' files and a student to a comparison, its JSON document, and the file that it is kept in."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from markov_cot.analysis.correlations import Correlation, correlation_json
from markov_cot.analysis.cots import analysis_folder
from markov_cot.analysis.resampling import Sampling
from markov_cot.analysis.teacher_files import RewardSource, RowReader, Teacher, make_reader, names_of, survey
from markov_cot.analysis.teacher_golds import Golds
from markov_cot.analysis.teacher_outcomes import correlations
from markov_cot.analysis.teacher_scores import HIGHEST_RANK, Student
from markov_cot.analysis.teacher_tables import TeacherTable, read_table
from markov_cot.analysis.teachers import METRICS, Comparison, Measure, TeacherResult, check_rewards, compare, sums_of
from markov_cot.evaluation.evaluate import Request, Track, refusing_to_write
from markov_cot.evaluation.item_log import fingerprint
from markov_cot.evaluation.loaded_model import LoadedModel, ModelSource, Overrides
from markov_cot.evaluation.locate import BASE, CheckpointRef
from markov_cot.evaluation.suites import SuiteTask
from markov_cot.grading.kinds import Kind
from markov_cot.utils.errors import UserError
from markov_cot.utils.files import replace_file

FORMAT = 1
BETA = 3.0
"""The paper's own value is in no source that was read; this one is from memory."""


@dataclass(frozen=True, slots=True)
class TeachersRequest:
    """What is asked."""

    files: Sequence[Path]
    overrides: Overrides
    """The student, and settings of its prompts."""
    beta: float = BETA
    rewards: RewardSource = "auto"
    kind: Kind | None = None
    dataset: str | None = None
    """Whose true answers responses are verified by."""
    n: int | None = None
    """Questions; all that the teachers share by default."""
    highest_rank: int = HIGHEST_RANK
    most_tokens: int | None = None
    outcomes: Path | None = None
    outcome_columns: Sequence[str] = ()
    teacher_column: str | None = None
    sampling: Sampling = field(default_factory=Sampling)
    out: Path | None = None


@dataclass(frozen=True)
class TeachersReport:
    """What was found."""

    asked: TeachersRequest
    teachers: Mapping[str, Teacher]
    reader: RowReader
    student: Student
    shared: int
    """Questions that all teachers answer."""
    comparison: Comparison
    outcomes: TeacherTable | None
    correlations: Mapping[str, Mapping[str, Correlation]]
    """By outcome and metric; empty without outcomes."""
    document: dict[str, Any]
    path: Path


def assess(asked: TeachersRequest, track: Track) -> TeachersReport:
    """Compare teachers on the questions that all of them answer, by what a student makes of their responses.

    What was computed is kept, and continued after an interruption. Raises `UserError`.
    """
    source = ModelSource(CheckpointRef(BASE, None, None), None, asked.overrides)
    config = source.config(SuiteTask(dataset=asked.dataset or str(asked.files[0])))
    golds = Golds(config.data) if asked.dataset else None
    reader = make_reader(asked.files, asked.rewards, asked.kind, golds)
    teachers = _surveys(asked.files, reader)
    outcomes = read_table(asked.outcomes, asked.teacher_column) if asked.outcomes else None
    if outcomes:  # what is wrong with them is found before anything is computed
        correlations(outcomes, asked.outcome_columns, list(teachers), {}, asked.sampling.seed)
    keys, shared = _questions(teachers, asked)
    check_rewards(list(teachers), np.array([each.reward_N[_rows(each, keys)].mean() for each in teachers.values()]))
    subject = LoadedModel(source, config)
    student = Student(subject, config, asked.highest_rank, asked.most_tokens)
    folder = asked.out or analysis_folder(source, Request(overrides=asked.overrides), config)
    about = {"kind": reader.kind, "data": golds.fingerprint if golds else None}
    sums, negative = [], []
    for name, teacher in teachers.items():
        rows = _rows(teacher, keys)
        scores = student.scores(teacher, reader, set(rows), folder / "cache", about, track(name, len(rows)))
        question_N, reward_N = np.array([keys[teacher.keys[i]] for i in rows]), teacher.reward_N[rows]
        sums.append(sums_of((scores[i] for i in rows), question_N, reward_N, len(keys)))
        negative.append(int((reward_N < 0).sum()))
    found = compare(list(teachers), np.stack(sums), negative, asked.beta, asked.sampling)
    rho = _correlations(found, outcomes, asked) if outcomes else {}
    document = _document(asked, teachers, reader, student, shared, found, outcomes, rho)
    name = fingerprint({key: document[key] for key in ("inputs", "student", "settings", "seed")})
    path = folder / f"teachers-{name[:12]}.json"
    with refusing_to_write(folder):
        replace_file(path, (json.dumps(document, indent=1, allow_nan=False) + "\n").encode())
    return TeachersReport(asked, teachers, reader, student, shared, found, outcomes, rho, document, path)


def _surveys(files: Sequence[Path], reader: RowReader) -> dict[str, Teacher]:
    found: dict[str, Teacher] = {}
    for path, name in zip(files, names_of(files), strict=True):
        teacher = survey(path, name, reader)
        if same := next((each for each in found.values() if each.sha256 == teacher.sha256), None):
            raise UserError(f"{path}: has the same content as {same.path}; give each teacher once")
        found[name] = teacher
    return found


def _questions(teachers: Mapping[str, Teacher], asked: TeachersRequest) -> tuple[dict[bytes, int], int]:
    """The questions that count, each with its place, and how many the teachers share."""
    shared = set.intersection(*(set(each.keys) for each in teachers.values()))
    if not shared:
        raise UserError(
            f"{', '.join(str(each.path) for each in teachers.values())}: share no question; teachers are compared on "
            "the same ones, so have them answer the same questions"
        )
    chosen = sorted(shared, key=lambda key: hashlib.blake2b(key, salt=_salt(asked.sampling.seed)).digest())[: asked.n]
    kept = set(chosen)
    # In the order of the first file, whose neighbours are as likely alike in length as any.
    ordered = [key for key in dict.fromkeys(next(iter(teachers.values())).keys) if key in kept]
    return {key: place for place, key in enumerate(ordered)}, len(shared)


def _salt(seed: int) -> bytes:
    return hashlib.sha256(str(seed).encode()).digest()[: hashlib.blake2b.SALT_SIZE]


def _rows(teacher: Teacher, keys: Mapping[bytes, int]) -> list[int]:
    """Its rows whose questions count."""
    return [i for i, key in enumerate(teacher.keys) if key in keys]


def _correlations(
    found: Comparison, outcomes: TeacherTable, asked: TeachersRequest
) -> dict[str, dict[str, Correlation]]:
    metrics = {
        metric: [each.metrics[metric].value for each in found.teachers.values()]
        for metric in METRICS
        if all(math.isfinite(each.metrics[metric].value) for each in found.teachers.values())
    }
    return correlations(outcomes, asked.outcome_columns, list(found.teachers), metrics, asked.sampling.seed)


def _document(
    asked: TeachersRequest,
    teachers: Mapping[str, Teacher],
    reader: RowReader,
    student: Student,
    shared: int,
    found: Comparison,
    outcomes: TeacherTable | None,
    rho: Mapping[str, Mapping[str, Correlation]],
) -> dict[str, Any]:
    inputs = [
        {
            "file": str(each.path),
            "teacher": name,
            "sha256": each.sha256,
            "rows": len(each.keys),
            "questions": each.questions,
        }
        for name, each in teachers.items()
    ]
    if outcomes:
        inputs.append({"file": outcomes.source, "sha256": outcomes.sha256, "rows": len(outcomes.teachers)})
    return {
        "format": FORMAT,
        "n": found.questions,
        "shared_questions": shared,
        "seed": asked.sampling.seed,
        "student": {**student.base, "dtype": student.dtype},
        "settings": {
            "beta": found.beta,
            "rewards": "given" if reader.is_given else "verified",
            "dataset": asked.dataset,
            "n": asked.n,
            "outcomes": list(rho) or None,
            "resamples": asked.sampling.resamples,
            "level": asked.sampling.level,
            **{key: student.settings[key] for key in ("prompt", "most_tokens", "highest_rank")},
            "kind": reader.kind,
            "chat": student.chat,
        },
        "inputs": inputs,
        "teachers": {name: _teacher(each) for name, each in found.teachers.items()},
        "ranking": list(found.teachers) if len(found.teachers) > 1 else None,
        "beta_ranges": [
            {"low": each.low, "high": each.high, "ranking": [list(group) for group in each.ranking]}
            for each in found.ranges
        ],
        "correlations": {
            outcome: {metric: correlation_json(each) for metric, each in by_metric.items()}
            for outcome, by_metric in rho.items()
        },
    }


def _teacher(found: TeacherResult) -> dict[str, Any]:
    standing = found.standing
    return {
        "responses": found.responses,
        **{metric: _measure(each) for metric, each in found.metrics.items()},
        "rank": None
        if standing is None
        else {"value": standing.rank, "low": standing.rank_low, "high": standing.rank_high},
        "best": standing and standing.best,
        "behind": standing and _measure(standing.behind),
        "ifd_above_1": found.above_1,
        "without_ifd": found.without_ifd,
        "cut": found.cut,
        "negative_rewards": found.negative,
    }


def _measure(found: Measure) -> dict[str, float | None]:
    low, high = (None if end is None else _finite(end) for end in (found.low, found.high))
    return {"value": _finite(found.value), "low": low, "high": high}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
