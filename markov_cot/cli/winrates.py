"""What `markov-cot winrate` does: read the options, compute, print tables or JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from markov_cot.analysis.bradley_terry import Rating
from markov_cot.analysis.resampling import Sampling
from markov_cot.analysis.winrate import Position, Score
from markov_cot.analysis.winrate_document import Measured, Request, as_json, measure
from markov_cot.cli.tables import plain_table, print_table
from markov_cot.evaluation.statistics import small_sample_note
from markov_cot.utils.text import visible

_SHOWN = 5


def run_winrate(files: tuple[str, ...], options: Mapping[str, Any], *, is_json: bool) -> None:
    """Compute what is asked and print it."""
    found = measure(make_request(files, options))
    if is_json:
        print(json.dumps(as_json(found), ensure_ascii=False, allow_nan=False))
    else:
        print_report(found)


def make_request(files: tuple[str, ...], options: Mapping[str, Any]) -> Request:
    """The options as a request."""
    return Request(
        files=[Path(file) for file in files],
        expected=options["expected"],
        baseline=options["baseline"],
        opponent=options["opponent"],
        strong=options["strong"],
        sampling=Sampling(options["unit"], options["resamples"], options["level"], options["seed"]),
    )


def print_report(found: Measured) -> None:
    """Tables of win rates, by category where there are several, and what should be known beside them."""
    console = Console(markup=False, highlight=False)
    sampling = found.asked.sampling
    against = " or ".join(found.rates.baselines) or "all that it met"
    title = f"win rate against {against}, percent [{sampling.level:g} % over {sampling.unit}], n = {found.rates.n:,}"
    print_table(console, _models(found), visible(title))
    if len(found.tally.categories) > 1:
        console.print()
        print_table(console, _categories(found), "by category")
    console.print()
    for note in notes(found):
        console.print(visible(note), soft_wrap=True)


def _models(found: Measured) -> Table:
    table = plain_table("model", "win rate", "stderr", "questions", "votes", "malformed", "by order", "rating")
    for name, each in found.rates.models.items():
        table.add_row(
            visible(name),
            _rate(each.score),
            "-" if each.score is None or each.score.stderr is None else f"{each.score.stderr:.2f}",
            f"{each.score.n:,}" if each.score else "0",
            f"{each.score.votes:,}" if each.score else "0",
            f"{each.malformed:,}",
            f"{each.position.depends[0]:.1f} %" if each.position else "-",
            _rating(found.rates.ratings[name]),
        )
    return table


def _categories(found: Measured) -> Table:
    names = found.tally.categories
    table = plain_table("model", *(name or "without" for name in names))
    for model, each in found.rates.models.items():
        table.add_row(visible(model), *(_rate(each.categories.get(name)) for name in names))
    return table


def _rate(score: Score | None) -> str:
    if score is None:
        return "-"
    if score.low is None or score.high is None:
        return f"{score.win_rate:.2f}"
    return f"{score.win_rate:.2f} [{score.low:.2f}, {score.high:.2f}]"


def _rating(rating: Rating) -> str:
    if math.isnan(rating.value):
        return "-"
    if math.isnan(rating.low) or math.isinf(rating.value):
        return f"{rating.value:.0f}"
    return f"{rating.value:.0f} [{rating.low:.0f}, {rating.high:.0f}]"


def notes(found: Measured) -> Iterator[str]:
    """What should be known beside the numbers, a line each."""
    rates, tally = found.rates, found.tally
    mean = "their mean is 1000" if rates.anchor is None else f"{rates.anchor} is 1000"
    yield f"rating: Bradley-Terry over all games, where {mean}; 400 more are odds of 10 to 1"
    if rates.position:
        yield _order(rates.position)
    if tally.malformed:
        yield _malformed(found)
    if rates.left_out:
        yield f"{rates.left_out:,} verdicts on pairs without the baseline count for the ratings alone"
    if len(rates.baselines) > 1:
        yield "the baseline differs from question to question, and so does what a win rate means: see them by category"
    if len(formats := dict.fromkeys(each.format for each in found.sources)) > 1:
        yield f"the votes of {len(formats)} kinds of files are counted together: {_list(list(formats))}"
    if len(tally.judges) > 1:
        yield f"the votes of {len(tally.judges)} judges are counted together: {_list(list(tally.judges))}"
    if found.asked.sampling.unit == "votes":
        yield "votes on one question depend on each other, so intervals over votes are too narrow"
    yield from _doubtful(found)


def _order(position: Position) -> str:
    depends, low, high = position.depends
    return (
        f"by order: {depends:.1f} % [{low:.1f}, {high:.1f}] of {position.n:,} questions judged in both orders came out "
        f"otherwise in the other (the answer shown first won twice: {position.first:,}, the one shown second: "
        f"{position.second:,}, sign test p = {position.p_value:.2g}; a tie in one order: {position.partly:,})"
    )


def _malformed(found: Measured) -> str:
    labels = [f"{label or 'nothing'} ({count:,})" for label, count in found.tally.labels.most_common()]
    count = sum(found.tally.malformed.values())
    return f"malformed verdicts, which have no vote: {count:,}; in their place stands {_list(labels)}"


def _doubtful(found: Measured) -> Iterator[str]:
    """Which numbers say less than they seem to."""
    rates = found.rates
    extreme = [name for name, each in rates.models.items() if each.score and each.score.win_rate in (0, 100)]
    if extreme:
        yield f"{_list(extreme)}: every vote went one way, which no resampling can change; the interval says nothing"
    unlinked = [name for name, each in rates.ratings.items() if math.isnan(each.value)]
    if unlinked:
        yield f"{_list(unlinked)}: no rating, for want of won and lost votes that link all models"
    if any(each.undetermined for each in rates.ratings.values()):
        most = max(each.undetermined for each in rates.ratings.values())
        yield f"up to {most:,} resamples do not determine a rating, and are left out of its interval"
    sizes = [each.score.n for each in rates.models.values() if each.score]
    if note := small_sample_note(min(sizes), is_share=False):
        yield note


def _list(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
