"""Reads teachers' files a row at a time: a question, a response to it, and what the response is worth.

A file may be larger than memory: of each row only its question's digest and its reward are kept.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

import numpy as np

from markov_cot.analysis.teacher_golds import Golds
from markov_cot.checkpoints.manifest import checksum
from markov_cot.config.schema import Data
from markov_cot.data.dataset import RowContext
from markov_cot.data.fields import RowError, choice_texts, clean_text, optional_text, shown, text, text_or_number, texts
from markov_cot.data.jsonl import CHOICES, from_row
from markov_cot.data.kinds import kind_of_rows
from markov_cot.data.lines import numbered_lines, parse_object, unzipped
from markov_cot.data.problem import Problem
from markov_cot.data.reading import Row, check_not_pointer
from markov_cot.data.splits import question_key
from markov_cot.data.templates import SUFFIXES
from markov_cot.grading.extractors import PRIMARY, grade
from markov_cot.grading.kinds import LETTERS, Kind
from markov_cot.utils.errors import UserError

RewardSource = Literal["auto", "given", "verified"]
REWARDS: tuple[RewardSource, ...] = get_args(RewardSource)
KEY_BYTES = 16
LARGEST_REWARD = 1e100
"""So that sums and products of rewards are finite."""
_ASKED = ("question", "passage", "kind", *CHOICES)
"""Fields of the problem, as in one's own data."""
_REMEDY = "correct the row, or take it out"
_HEAD = 64

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Answered:
    """A question and a teacher's response to it."""

    problem: Problem
    """Its `answer` is empty where there is nothing to verify by."""
    response: str
    """All that the student would learn to write."""
    answer: str
    """What is verified: the answer, or where the row has none of its own the response."""

    @property
    def key(self) -> bytes:
        """Digest of the question, its passage and its choices."""
        written = " ".join(question_key(self.problem).split())
        return hashlib.blake2b(written.encode(), digest_size=KEY_BYTES).digest()


@dataclass(frozen=True)
class Teacher:
    """What is known of a teacher's file before the student has seen it."""

    name: str
    path: Path
    sha256: str
    keys: Sequence[bytes]
    """Of each row's question."""
    reward_N: np.ndarray
    """Of each row."""

    @property
    def questions(self) -> int:
        """How many different ones it answers."""
        return len(set(self.keys))


class RowReader:
    """Turns rows into responses and rewards, by the same rules for all teachers."""

    def __init__(self, kind: Kind, rewards: RewardSource, *, is_given: bool, golds: Golds | None) -> None:
        self.kind, self.is_given = kind, is_given
        self._rewards, self._golds, self._data = rewards, golds, Data(kind=None if kind == "continuation" else kind)

    def answered(self, row: Mapping[str, Any]) -> Answered:
        """Return a row's question and response. Raises `RowError`, saying why, where there is none."""
        problem = self._problem(row)
        if row.get("response") is not None:
            response = text(row, "response")
            return Answered(problem, response, response)
        if row.get("cot") is None:
            raise RowError(f"no `response`, and no `cot` and `answer` (the row has {', '.join(row) or 'no fields'})")
        cot = clean_text(row["cot"], "cot")
        if row.get("answer") is None:
            raise RowError("has a `cot` and no `answer`; give both, or all of it as `response`")
        answer = text_or_number(row["answer"], "answer")
        return Answered(problem, f"{cot}{SUFFIXES[problem.kind]} {answer}", answer)

    def reward(self, row: Mapping[str, Any], answered: Answered) -> float:
        """Return the row's reward, or 1 for a right answer and 0 for a wrong one. Raises `RowError`, saying why."""
        given = row.get("reward")
        if self.is_given:
            if given is None:
                raise RowError("no `reward`, which other rows have; give all of them one, or pass --reward verified")
            return _finite(given)
        if given is not None and self._rewards == "auto":
            raise RowError("has a `reward`, and others have none; give all of them one, or pass --reward verified")
        problem = answered.problem
        if not problem.answer:
            raise RowError("no `reward`, and no `gold` to verify by; give one of them, or --dataset with the questions")
        _, is_right = grade(PRIMARY[problem.kind], answered.answer, problem.accepted, problem.choices)
        return float(is_right)

    def _problem(self, row: Mapping[str, Any]) -> Problem:
        question = text(row, "question")
        if self._golds:
            return self._golds.of(question)
        asked = {name: row[name] for name in _ASKED if row.get(name) is not None}
        if self.is_given or row.get("gold") is None:
            choices = _choices(asked)
            kind: Kind = "choice" if choices else self.kind
            return Problem("", question, "", kind, choices, optional_text(row, "passage"))
        try:
            return from_row({**asked, "answer": row["gold"]}, RowContext("", 0, "", (), self._data))
        except RowError as error:
            raise RowError(re.sub(r"\Aanswer\b", "gold", str(error))) from None


def make_reader(paths: Sequence[Path], rewards: RewardSource, kind: Kind | None, golds: Golds | None) -> RowReader:
    """Return the reader of all files. What is not asked for is read off the first row. Raises `UserError`."""
    first = next(_each(paths[0], lambda row: row), None)
    if first is None:
        raise _empty(paths[0])
    is_given = rewards == "given" or (rewards == "auto" and first.get("reward") is not None)
    if golds:
        if kind:
            raise UserError(f"--kind {kind}: is of the rows' golds, and {golds.name} has its own; leave it out")
        kind = golds.kind
    elif kind is None:
        found = kind_of_rows([("", Row(1, "line", {**first, "answer": first.get("gold")}))], str(paths[0]))
        kind = found or "text"
    return RowReader(kind, rewards, is_given=is_given, golds=golds)


def survey(path: Path, name: str, reader: RowReader) -> Teacher:
    """Read a teacher's file once, and check every row. Raises `UserError` for a bad file or row."""

    def known(row: dict[str, Any]) -> tuple[bytes, float]:
        answered = reader.answered(row)
        return answered.key, reader.reward(row, answered)

    keys, rewards = list[bytes](), list[float]()
    for key, reward in _each(path, known):
        keys.append(key)
        rewards.append(reward)
    if not keys:
        raise _empty(path)
    return Teacher(name, path, checksum(path), keys, np.array(rewards))


def responses(teacher: Teacher, reader: RowReader, indices: Collection[int]) -> Iterator[tuple[int, Answered]]:
    """Yield some of a teacher's rows again, each with its index from 0."""
    rows = _each(teacher.path, lambda row: row)
    for index, row in enumerate(rows):
        if index in indices:
            yield index, reader.answered(row)


def names_of(paths: Sequence[Path]) -> list[str]:
    """Return what teachers are called: their files' names, or where two are the same their paths."""
    stems = [path.name.removesuffix(".gz").removesuffix(".jsonl") or path.name for path in paths]
    return [stem if stems.count(stem) == 1 else str(path) for stem, path in zip(stems, paths, strict=True)]


def _each(path: Path, convert: Callable[[dict[str, Any]], T]) -> Iterator[T]:
    """Yield what `convert` makes of each row; its `RowError` becomes a `UserError` that says where."""
    if path.is_dir():
        raise UserError(f"{path}: is a folder, not a file; name the files in it")
    with unzipped(path) as stream:
        check_not_pointer(path, stream.read(_HEAD))
    for number, line in numbered_lines(path):
        try:
            yield convert(parse_object(line))
        except ValueError as error:
            raise UserError(f"{path} line {number}: {error}; {_REMEDY}") from None


def _empty(path: Path) -> UserError:
    return UserError(f"{path}: is empty; give a JSONL file with `question` and `response` in each row")


def _choices(asked: Mapping[str, Any]) -> tuple[str, ...]:
    name = next((name for name in CHOICES if isinstance(asked.get(name), (list, tuple))), None)
    return choice_texts(texts(asked, name), name, fewest=2, most=len(LETTERS)) if name else ()


def _finite(reward: object) -> float:
    if isinstance(reward, bool) or not isinstance(reward, int | float) or not abs(reward) <= LARGEST_REWARD:
        raise RowError(f"reward is {shown(reward)}, not a finite number")
    return float(reward)
