"""True answers of a dataset's questions, looked up by the question."""

from __future__ import annotations

from markov_cot.config.schema import Data
from markov_cot.data.catalog import BENCHMARKS
from markov_cot.data.fields import RowError
from markov_cot.data.problem import Problem
from markov_cot.data.registry import load
from markov_cot.grading.kinds import Kind
from markov_cot.utils.errors import UserError


class Golds:
    """The problems of all splits of a dataset by their question, however its white space is."""

    def __init__(self, data: Data) -> None:
        """Raises `UserError` for a dataset that cannot be had, or whose questions cannot be looked up."""
        if data.dataset in BENCHMARKS:
            _check_kind(data.dataset, BENCHMARKS[data.dataset].kind)
        splits = load(data)
        if splits.parameters:
            raise UserError(f"--dataset {data.dataset}: is generated, not stored; give each row its `gold`")
        self.name, self.fingerprint = splits.name, splits.fingerprint()
        self.kind: Kind = next(iter(splits.train or splits.test)).kind
        self._problems: dict[str, Problem | None] = {}
        for split in (splits.train, splits.validation, splits.test):
            for problem in split:
                _check_kind(data.dataset, problem.kind)
                self._add(problem)

    def _add(self, problem: Problem) -> None:
        key = _key(problem.question)
        known = self._problems.setdefault(key, problem)
        if known is not None and _meaning(known) != _meaning(problem):
            self._problems[key] = None

    def of(self, question: str) -> Problem:
        """Return the problem that a row's question is of. Raises `RowError` where there is not exactly one."""
        key = _key(question)
        if key not in self._problems:
            raise RowError(f"its question is not in {self.name}; name the dataset it is from, or take the row out")
        found = self._problems[key]
        if found is None:
            raise RowError(
                f"{self.name} has its question several times, with other passages, choices or answers; leave "
                "--dataset out, and give each row its `gold`"
            )
        return found


def _check_kind(dataset: str, kind: Kind) -> None:
    if kind == "continuation":
        raise UserError(f"--dataset {dataset}: has texts to continue, not questions; name another")


def _key(question: str) -> str:
    return " ".join(question.split())


def _meaning(problem: Problem) -> tuple[object, ...]:
    return problem.passage, problem.choices, problem.accepted
