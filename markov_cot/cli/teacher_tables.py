"""What `markov-cot teachers --table` does: read the table, print correlations and rankings, or JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from markov_cot.analysis.correlations import Correlation, correlation_json
from markov_cot.analysis.teacher_outcomes import OutcomeReport, report_table
from markov_cot.analysis.teacher_tables import TeacherTable, read_table
from markov_cot.cli.tables import plain_table, print_table
from markov_cot.utils.text import visible

FORMAT = 1
MOST_TEACHERS = 10
"""In the printed ranking; the JSON has all."""


def run_table(options: Mapping[str, Any], *, as_json: bool) -> None:
    """Hold a table's metrics against its outcomes and print what is found."""
    table = read_table(Path(options["table"]), options["teacher_column"], options["student_column"])
    found = report_table(table, options["outcome_columns"], options["seed"])
    if as_json:
        print(json.dumps(document(table, found, options["seed"]), ensure_ascii=False, allow_nan=False))
        return
    console = Console(markup=False, highlight=False)
    for outcome, each in found.items():
        print_outcome(console, table, outcome, each)
    for note in notes(table, found):
        console.print(visible(note), soft_wrap=True)


def print_outcome(console: Console, table: TeacherTable, outcome: str, found: OutcomeReport) -> None:
    """Print the tables of one outcome."""
    if found.correlations:
        title = f"Spearman's rho with {outcome}"
        print_table(console, correlation_table(found), visible(title))
        console.print()
    if len(found.best) < 2:
        return
    ranking = plain_table("teacher", "mean", "best for")
    for name, mean in list(found.means.items())[:MOST_TEACHERS]:
        ranking.add_row(
            visible(name), f"{mean:.6g}", visible(", ".join(s for s, best in found.best.items() if best == name))
        )
    more = len(found.means) - MOST_TEACHERS
    title = f"{outcome}: mean over {len(found.best)} students" + (f" (and {more} more teachers)" if more > 0 else "")
    print_table(console, ranking, visible(title))
    console.print()
    print_table(console, between_table(found), visible(f"rho of {outcome} between students"))
    console.print()


def correlation_table(found: OutcomeReport) -> Table:
    """Return rho by metric and student with its mean, or of one student with its p-value."""
    students = list(found.best)
    if len(students) == 1:
        table = plain_table("metric", "rho", "p", "n")
        for metric, of in found.correlations.items():
            table.add_row(visible(metric), *correlation_cells(of[students[0]]))
        return table
    table = plain_table("metric", *students, "mean")
    for metric, of in found.correlations.items():
        table.add_row(visible(metric), *(_rho(of[student].rho) for student in students), _rho(found.mean_rho(metric)))
    return table


def correlation_cells(found: Correlation) -> tuple[str, str, str]:
    """Return rho, p and n as cells."""
    return _rho(found.rho), "-" if found.p_value is None else f"{found.p_value:.2g}", str(found.n)


def between_table(found: OutcomeReport) -> Table:
    """Return rho of two students' outcomes, for every two."""
    students = list(found.best)
    table = plain_table("", *students[1:])
    for i, student in enumerate(students[:-1], 1):
        cells = [_rho(found.between[student, other].rho) for other in students[i:]]
        table.add_row(visible(student), *[""] * (i - 1), *cells)
    return table


def notes(table: TeacherTable, found: Mapping[str, OutcomeReport]) -> list[str]:
    """Return what should be known beside the numbers, a line each."""
    names = len(set(table.teachers))
    of = f", of {table.student_column} {len(set(table.students))}" if table.student_column else ""
    lines = [f"n: {names} teachers ({table.teacher_column}){of}; rho is over teachers, ties at their mean rank"]
    if table.left_out:
        lines.append(f"neither names nor numbers, and left out: {', '.join(table.left_out)}")
    if len(set(table.students)) > 1:
        lines.append("students whose outcomes go together are not as many independent findings as there are of them")
    return lines


def document(table: TeacherTable, found: Mapping[str, OutcomeReport], seed: int) -> dict[str, Any]:
    """Return what was found as JSON."""
    return {
        "format": FORMAT,
        "n": len(set(table.teachers)),
        "seed": seed,
        "settings": {"teacher": table.teacher_column, "student": table.student_column, "outcomes": list(found)},
        "inputs": [{"file": table.source, "sha256": table.sha256, "rows": len(table.teachers)}],
        "outcomes": {outcome: _outcome(each) for outcome, each in found.items()},
    }


def _outcome(found: OutcomeReport) -> dict[str, Any]:
    return {
        "correlations": {
            metric: {
                "mean": found.mean_rho(metric),
                "students": {student: correlation_json(each) for student, each in of.items()},
            }
            for metric, of in found.correlations.items()
        },
        "best": dict(found.best),
        "means": dict(found.means),
        "between": [{"students": list(students), **correlation_json(each)} for students, each in found.between.items()],
    }


def _rho(value: float | None) -> str:
    return "-" if value is None else f"{value:+.3f}"
