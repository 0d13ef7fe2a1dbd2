"""Grades stored outputs again: a JSONL file of `response` and `gold`, or of an evaluation's samples, in one pass."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from markov_cot.data.comparison import other_letter
from markov_cot.data.lines import numbered_lines, parse_object
from markov_cot.evaluation.classification import macro_f1
from markov_cot.evaluation.graded_rows import GradedRow, Row, RowReader
from markov_cot.evaluation.statistics import Summary, summarise_counts
from markov_cot.grading.extractors import Extractor, credit, grade
from markov_cot.grading.kinds import Kind
from markov_cot.grading.numeral_forms import Form
from markov_cot.utils.errors import UserError

_FIRST = 5
"""Malformed lines whose numbers are named."""
_WANTED: dict[Kind, str] = {
    "numeric": "a number",
    "choice": "a choice's letter",
    "text": "a text, or a list of accepted ones",
}


@dataclass(slots=True)
class Orders:
    """Counts over responses of which there is one in each order."""

    swapped: int = 0
    """Right in the other order."""
    both: int = 0
    """Right in both."""
    consistent: int = 0
    """Of the same verdict in both, right or wrong."""

    def count(self, predicted: str | None, swapped: str | None, gold: str) -> None:
        """Add a pair of predictions, each by the letters of its own order; `gold` is by those of the first."""
        turned = None if swapped is None else other_letter(swapped)
        self.swapped += turned == gold
        self.both += predicted == turned == gold
        self.consistent += predicted is not None and predicted == turned


@dataclass(slots=True)
class Tally:
    """Counts of one extractor."""

    right: int = 0
    invalid: int = 0
    credit: float | None = None
    """Sum of partial credit (F1); None for rules without it."""
    verdicts: Counter[tuple[str, str | None]] = field(default_factory=Counter)
    """Of choices: how often each letter was right and each predicted."""
    orders: Orders | None = None
    """Of choices whose rows have a response in the other order."""

    @property
    def macro_f1(self) -> float | None:
        """Of choices; see `classification.macro_f1`."""
        pairs = list(self.verdicts.elements())
        return macro_f1([gold for gold, _ in pairs], [predicted for _, predicted in pairs]) if pairs else None


@dataclass(slots=True)
class GradeReport:
    """What `regrade` found. `n` responses, and a tally for each extractor's name."""

    n: int = 0
    absent: int = 0
    """Of the responses, those that are null."""
    tallies: dict[str, Tally] = field(default_factory=dict)

    def summary(self, name: str) -> Summary:
        """Accuracy of one extractor; invalid predictions are wrong."""
        return summarise_counts(self.tallies[name].right, self.n)

    def as_json(self) -> dict[str, Any]:
        """The form `markov-cot grade --json` prints. `stderr` is null for a single row."""
        extractors: dict[str, dict[str, float | int | None]] = {}
        for name, tally in self.tallies.items():
            summary = self.summary(name)
            extractors[name] = {"accuracy": summary.mean, "stderr": summary.stderr, "invalid": tally.invalid}
            if tally.credit is not None:
                extractors[name]["f1"] = tally.credit / self.n
            if (macro := tally.macro_f1) is not None:
                extractors[name]["macro_f1"] = macro
            if tally.orders:
                extractors[name] |= {key: count / self.n for key, count in asdict(tally.orders).items()}
        return {"n": self.n, "extractors": extractors}


def regrade(
    path: Path,
    kind: Kind,
    extractors: Sequence[Extractor],
    choices: int | None = None,
    write: Callable[[Row], None] | None = None,
    form: Form | None = None,
) -> GradeReport:
    """Grades every row of `path`; `write` gets each row in order with `predicted` and `correct` added.

    A row's own `choices` (their texts, or their number) go before `choices`, which is five where nothing is said;
    `form` is how numbers are written, English where nothing is said, unless a gold shows another form. A response that
    is null is invalid. A sample row counts as often as it has responses, and is then written once for each, with
    `response`. Raises `UserError` when the file cannot be read, is empty, or holds malformed rows, of which all are
    counted.
    """
    report = GradeReport(tallies={extractor.name: Tally() for extractor in extractors})
    reader, faults, skipped = RowReader(kind, choices, form), list[tuple[int, str]](), 0
    for number, line in numbered_lines(path):
        try:
            row = parse_object(line)
            graded = reader.read(row)
        except ValueError as error:
            faults.append((number, str(error)))
            continue
        if graded is None:
            skipped += 1
        elif not faults:
            _grade_row(report, extractors, row, graded, write)
    if faults:
        raise UserError(_describe(path, kind, faults))
    if report.n == 0 and skipped:
        raise UserError(f"{path}: its {skipped:,} samples are likelihoods (filter none), with no answer to grade")
    if report.n == 0:
        raise UserError(f"{path}: holds no rows; give a JSONL file with `response` and `gold` in every row")
    return report


def _grade_row(
    report: GradeReport,
    extractors: Sequence[Extractor],
    row: Row,
    graded: GradedRow,
    write: Callable[[Row], None] | None,
) -> None:
    for number, response in enumerate(graded.responses):
        report.n += 1
        report.absent += response is None
        predicted, correct = {}, {}
        for extractor in extractors:
            name, tally = extractor.name, report.tallies[extractor.name]
            predicted[name], correct[name] = grade(extractor, response, graded.gold, graded.choices, graded.form)
            tally.right += correct[name]
            tally.invalid += predicted[name] is None
            if (part := credit(extractor, predicted[name], graded.gold)) is not None:
                tally.credit = (tally.credit or 0.0) + part
            if graded.choices and isinstance(graded.gold, str):
                tally.verdicts[graded.gold, predicted[name]] += 1
                if graded.swapped:
                    tally.orders = tally.orders or Orders()
                    other, _ = grade(extractor, graded.swapped[number], graded.gold, graded.choices)
                    tally.orders.count(predicted[name], other, graded.gold)
        if write:
            write(row | {"response": response, "predicted": predicted, "correct": correct})


def _describe(path: Path, kind: Kind, faults: list[tuple[int, str]]) -> str:
    number, reason = faults[0]
    advice = f"every row needs `response` (text) and `gold` ({_WANTED[kind]})"
    if len(faults) == 1:
        return f"{path} line {number}: {reason}; {advice}"
    lines = ", ".join(str(line) for line, _ in faults[:_FIRST]) + (", ..." if len(faults) > _FIRST else "")
    return f"{path} line {number}: {reason}; {len(faults):,} malformed rows (lines {lines}); {advice}"
