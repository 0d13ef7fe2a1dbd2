"""How well metrics of teachers agree with what became of their students."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from markov_cot.analysis.correlations import FEWEST, Correlation, correlate
from markov_cot.analysis.sweep_rows import nearest
from markov_cot.analysis.teacher_tables import TeacherTable, outcome_columns
from markov_cot.utils.errors import UserError


@dataclass(frozen=True)
class OutcomeReport:
    """What was found of one outcome."""

    correlations: Mapping[str, Mapping[str, Correlation]]
    """By metric and student."""
    best: Mapping[str, str]
    """Each student's teacher with the largest outcome."""
    means: Mapping[str, float]
    """Of the teachers that every student has, the mean over students; the largest first."""
    between: Mapping[tuple[str, str], Correlation]
    """Of two students' outcomes over the teachers that both have."""

    def mean_rho(self, metric: str) -> float | None:
        """Return a metric's mean over students; None where one of them has none."""
        values = [each.rho for each in self.correlations[metric].values()]
        known = [value for value in values if value is not None]
        return math.fsum(known) / len(known) if len(known) == len(values) else None


def report_table(table: TeacherTable, asked: Sequence[str], seed: int = 0) -> dict[str, OutcomeReport]:
    """Return what is found of each outcome. Raises `UserError` for fewer than three teachers, or nothing to compare."""
    outcomes = outcome_columns(table, asked)
    metrics = [name for name in table.numbers if name not in outcomes]
    rows: dict[str, list[int]] = {}
    for row, student in enumerate(table.students):
        rows.setdefault(student, []).append(row)
    for student, own in rows.items():
        if len(own) < FEWEST:
            of = f" for {student}" if student else ""
            raise UserError(f"{table.source}: {_too_few(len(own), of)}")
    if not metrics and len(rows) == 1:
        raise UserError(f"{table.source}: has one column of numbers and one student; add a metric or another student")
    return {name: _report(table, values, metrics, rows, seed) for name, values in outcomes.items()}


def _too_few(count: int, of: str = "") -> str:
    return f"{count} teacher{'s' * (count != 1)}{of} only, and a rank correlation needs {FEWEST} or more; add teachers"


def _report(
    table: TeacherTable,
    values: Sequence[float],
    metrics: Sequence[str],
    rows: Mapping[str, Sequence[int]],
    seed: int,
) -> OutcomeReport:
    by_student = {student: {table.teachers[i]: values[i] for i in own} for student, own in rows.items()}
    shared = [name for name in dict.fromkeys(table.teachers) if all(name in each for each in by_student.values())]
    means = {name: math.fsum(each[name] for each in by_student.values()) / len(by_student) for name in shared}
    between = {}
    for one, other in combinations(by_student, 2):
        both = [name for name in by_student[one] if name in by_student[other]]
        ours, theirs = ([by_student[student][name] for name in both] for student in (one, other))
        enough = len(both) >= FEWEST
        between[one, other] = correlate(ours, theirs, seed) if enough else Correlation(len(both), None, None)
    return OutcomeReport(
        {
            metric: {
                student: correlate([table.numbers[metric][i] for i in own], [values[i] for i in own], seed)
                for student, own in rows.items()
            }
            for metric in metrics
        },
        {student: max(each, key=lambda name: each[name]) for student, each in by_student.items()},
        dict(sorted(means.items(), key=lambda pair: -pair[1])),
        between,
    )


def correlations(
    table: TeacherTable, asked: Sequence[str], names: Sequence[str], metrics: Mapping[str, Sequence[float]], seed: int
) -> dict[str, dict[str, Correlation]]:
    """Return by outcome and metric the correlation over the teachers of these names, in the order of each metric.

    Raises `UserError` for fewer than three, and for one that is not in the table, or there for several students.
    """
    if len(names) < FEWEST:
        raise UserError(f"--outcomes: {_too_few(len(names))}")
    if table.student_column:
        raise UserError(
            f"--outcomes {table.source}: has outcomes of several students (column {table.student_column}); keep "
            "the rows of the one that is given"
        )
    rows = []
    for name in names:
        if name not in table.teachers:
            raise UserError(f"--outcomes {table.source}: lacks teacher {name}{nearest(name, table.teachers)}")
        rows.append(table.teachers.index(name))
    outcomes = outcome_columns(table, asked or list(table.numbers))
    return {
        outcome: {metric: correlate(own, [values[i] for i in rows], seed) for metric, own in metrics.items()}
        for outcome, values in outcomes.items()
    }
