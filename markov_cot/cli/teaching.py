"""What `markov-cot teachers` does with files: read the options, show progress, print tables or JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from markov_cot.analysis.resampling import Sampling
from markov_cot.analysis.teacher_report import TeachersReport, TeachersRequest, assess
from markov_cot.analysis.teachers import CAR, LOSS, REWARD, BetaRange, Comparison, Measure
from markov_cot.cli.evaluating import progress
from markov_cot.cli.quiet import quiet_libraries
from markov_cot.cli.signals import ending_at_once
from markov_cot.cli.tables import plain_table, print_table
from markov_cot.cli.teacher_tables import correlation_cells
from markov_cot.config.loading import read_assignments
from markov_cot.evaluation.loaded_model import Overrides
from markov_cot.evaluation.statistics import small_sample_note
from markov_cot.utils.errors import UserError
from markov_cot.utils.text import visible

HEADINGS = {
    REWARD: "reward",
    LOSS: "loss",
    CAR: "CAR",
    "ppl_self": "PPL-Self",
    "ifd_loss": "IFD (losses)",
    "ifd_ppl": "IFD (perplexities)",
    "rsr": "RSR",
    "length": "tokens",
}
"""Of the metrics."""
MOST_RANGES = 8
"""Of beta that are printed; the JSON has all."""


def run_teachers(
    files: tuple[str, ...], options: Mapping[str, Any], settings: tuple[str, ...], *, as_json: bool
) -> None:
    """Compare teachers as asked and print the outcome."""
    asked = make_request(files, options, settings)
    quiet_libraries()
    errors = Console(stderr=True, markup=False, highlight=False)
    with ending_at_once(), progress(errors) as track:
        found = assess(asked, track)
    if as_json:
        print(json.dumps(found.document, ensure_ascii=False, allow_nan=False))
    else:
        print_report(found)


def make_request(files: tuple[str, ...], options: Mapping[str, Any], settings: tuple[str, ...]) -> TeachersRequest:
    """Return the options as a request. Raises `UserError` for a beta that is no number."""
    if not math.isfinite(options["beta"]):
        raise UserError(f"--beta: {options['beta']} is not a finite number; give one from 0 on")
    return TeachersRequest(
        files=[Path(file) for file in files],
        overrides=Overrides(options["student"], options["data_dir"], read_assignments(settings)),
        beta=options["beta"],
        rewards=options["rewards"],
        kind=options["kind"],
        dataset=options["dataset"],
        n=options["n"],
        highest_rank=options["highest_rank"],
        most_tokens=options["most_tokens"],
        outcomes=Path(options["outcomes"]) if options["outcomes"] else None,
        outcome_columns=options["outcome_columns"],
        teacher_column=options["teacher_column"],
        sampling=Sampling(resamples=options["resamples"], seed=options["seed"]),
        out=Path(options["out"]) if options["out"] else None,
    )


def print_report(found: TeachersReport) -> None:
    """Print metrics, ranking, where beta changes it, correlations, and what should be known beside them."""
    console = Console(markup=False, highlight=False)
    comparison = found.comparison

    def line(text: str = "") -> None:
        console.print(visible(text), soft_wrap=True)

    prompts = "its chat template" if found.student.chat else "plain prompts"
    line(f"student {found.student.base['name']}, {prompts}; n = {comparison.questions:,} questions")
    line()
    print_table(console, _metrics(comparison), "mean over responses [95 % over questions]")
    line()
    if len(comparison.teachers) > 1:
        print_table(console, _ranking(comparison), f"ranking by CAR at beta = {comparison.beta:g}")
        line()
        print_table(console, _ranges(comparison), "ranking by beta")
        line()
    for outcome, by_metric in found.correlations.items():
        table = plain_table("metric", "rho", "p", "n")
        for metric, each in by_metric.items():
            table.add_row(HEADINGS[metric], *correlation_cells(each))
        print_table(console, table, visible(f"Spearman's rho with {outcome}"))
        line()
    for note in notes(found):
        line(note)
    line(f"written: {found.path}")


def _metrics(found: Comparison) -> Table:
    table = plain_table("metric", *found.teachers)
    for metric, heading in HEADINGS.items():
        table.add_row(heading, *(_cell(each.metrics[metric]) for each in found.teachers.values()))
    return table


def _ranking(found: Comparison) -> Table:
    table = plain_table("teacher", "rank", "95 %", "CAR", "behind the first", "best in")
    for name, each in found.teachers.items():
        standing = each.standing
        assert standing is not None
        known = standing.rank_low is not None and standing.best is not None
        table.add_row(
            visible(name),
            str(standing.rank),
            f"{standing.rank_low} to {standing.rank_high}" if known else "-",
            _number(each.metrics[CAR].value),
            _cell(standing.behind) if standing.behind.value or standing.rank > 1 else "",
            f"{standing.best:.1%}" if known else "-",
        )
    return table


def _ranges(found: Comparison) -> Table:
    table = plain_table("beta", "ranking")
    for each in shown_ranges(found):
        end = "on" if each.high is None else f"to {each.high:.4g}"
        is_own = each.low <= found.beta and (each.high is None or found.beta < each.high)
        mark = " *" if is_own and len(found.ranges) > 1 else ""
        table.add_row(f"{each.low:.4g} {end}{mark}", visible(" > ".join(" = ".join(group) for group in each.ranking)))
    return table


def shown_ranges(found: Comparison) -> list[BetaRange]:
    """Return the ranges of beta around the one in use."""
    own = next(i for i, each in enumerate(found.ranges) if each.high is None or found.beta < each.high)
    first = max(0, min(own - MOST_RANGES // 2, len(found.ranges) - MOST_RANGES))
    return list(found.ranges[first : first + MOST_RANGES])


def notes(found: TeachersReport) -> Iterator[str]:
    """What should be known beside the numbers, a line each."""
    comparison = found.comparison
    if found.reader.is_given:
        yield "reward: as the rows have it"
    else:
        against = f"the answers of {found.asked.dataset}" if found.asked.dataset else "the rows' gold"
        yield f"reward: the share of right answers, by {against}"
    yield "a lower RSR is what its authors find better; IFD above 1: the question makes the response no more probable"
    for name, teacher in found.teachers.items():
        if more := teacher.questions - found.shared:
            yield f"{name}: {more:,} of its {teacher.questions:,} questions are left out: not all teachers answer them"
    if comparison.questions < found.shared:
        yield f"{comparison.questions:,} of the {found.shared:,} questions that all teachers answer were drawn"
    if len(comparison.teachers) == 1:
        yield "one teacher: there is nothing to rank it against; give the files of others"
    elif len(comparison.ranges) > 1:
        yield _beta_note(comparison)
    else:
        yield "the ranking by CAR is the same for every beta"
    for name, each in comparison.teachers.items():
        if each.above_1:
            yield f"{name}: the IFD of {each.above_1:,} of {each.responses:,} responses is 1 or more"
        if each.without_ifd:
            yield f"{name}: {each.without_ifd:,} responses of one token, or certain, have no IFD"
        if each.cut:
            most = found.student.settings["most_tokens"]
            yield f"{name}: {each.cut:,} of {each.responses:,} responses were cut off at {most:,} tokens"
        if each.negative:
            yield f"{name}: {each.negative:,} rewards are below 0; only their mean may not be"
        if not each.metrics[REWARD].value:
            yield f"{name}: its rewards are all 0, and so is CAR, whatever the loss"
    if note := small_sample_note(comparison.questions, is_share=False):
        yield note


def _beta_note(found: Comparison) -> str:
    """For which beta the first teacher is the first."""
    first = next(iter(found.teachers))
    own = [each for each in found.ranges if each.ranking[0] == (first,)]
    if len(own) == len(found.ranges):
        return f"{first} is the first for every beta; * marks the one in use"
    if not own:
        return "* marks the range of beta in use"
    high = own[-1].high
    span = f"from {own[0].low:.4g} on" if high is None else f"from {own[0].low:.4g} to {high:.4g}"
    return f"{first} is the first for beta {span}; * marks the one in use"


def _cell(found: Measure) -> str:
    if found.low is None or found.high is None:
        return _number(found.value)
    return f"{_number(found.value)} [{_number(found.low)}, {_number(found.high)}]"


def _number(value: float) -> str:
    return f"{value:.4g}" if math.isfinite(value) else "-"
