"""What `markov-cot forgetting` does: read the options, make both sides if asked, print tables or JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from markov_cot.analysis.forgetting import Comparison, Forgetting, Margins, compare_sides
from markov_cot.analysis.forgetting_document import as_json as document_of
from markov_cot.analysis.forgetting_document import write
from markov_cot.analysis.score_files import read_side
from markov_cot.cli.tables import plain_table, print_table
from markov_cot.utils.errors import UserError
from markov_cot.utils.text import visible

if TYPE_CHECKING:
    from markov_cot.evaluation.direct import BothSides

OF_MAKING = ("run", "suite", "checkpoint", "model", "data_dir", "limit", "seed", "out")
"""Options that only go with making both sides."""
COUNTS = "*"


def run_forgetting(
    sides: tuple[str, ...], options: Mapping[str, Any], settings: tuple[str, ...], *, as_json: bool
) -> None:
    """Compare as asked and print the outcome."""
    for name in ("margin", "loss_margin"):
        if not math.isfinite(options[name]):
            raise UserError(f"--{name.replace('_', '-')}: is {options[name]}; give how much may be lost")
    margins = Margins(options["margin"], options["loss_margin"])
    made = None if sides else _made(options, settings)
    before, after = (made.before, made.after) if made else _given(sides, options, settings)
    tasks = made.tasks if made else options["tasks"]
    found = compare_sides(read_side(before), read_side(after), margins, tasks, options["metrics"])
    document = document_of(found, seed=made.seed, made=made.about) if made else document_of(found)
    if made and made.folder:
        write(document, made.folder)
    if as_json:
        print(json.dumps(document, ensure_ascii=False, allow_nan=False))
    else:
        print_report(found)


def _given(sides: tuple[str, ...], options: Mapping[str, Any], settings: tuple[str, ...]) -> tuple[Path, Path]:
    if len(sides) != 2:
        raise UserError(f"{' '.join(sides)}: expected BEFORE and AFTER, got {len(sides)}; name both sides")
    for name in OF_MAKING:
        if options[name] is not None:
            raise UserError(f"--{name.replace('_', '-')}: is for making both sides; leave it out, or BEFORE and AFTER")
    if settings:
        raise UserError("--set: is for making both sides; leave it out, or BEFORE and AFTER")
    return Path(sides[0]), Path(sides[1])


def _made(options: Mapping[str, Any], settings: tuple[str, ...]) -> BothSides:
    """Both sides, scored here or taken from what was kept."""
    if options["run"] is None and options["checkpoint"] is None:
        raise UserError("nothing to compare: give BEFORE and AFTER, or --run NAME to make both first")
    from markov_cot.cli.evaluating import progress
    from markov_cot.cli.quiet import quiet_libraries
    from markov_cot.cli.signals import ending_at_once
    from markov_cot.config.loading import read_assignments
    from markov_cot.evaluation.direct import DirectRequest, measure_both
    from markov_cot.evaluation.loaded_model import Overrides

    quiet_libraries()
    errors = Console(stderr=True, markup=False, highlight=False)

    def say(message: str) -> None:
        errors.print(visible(message), soft_wrap=True)

    request = DirectRequest(
        checkpoint=options["checkpoint"],
        run=options["run"],
        suite=options["suite"] or "general",
        limit=options["limit"],
        seed=options["seed"],
        out=Path(options["out"]) if options["out"] else None,
        overrides=Overrides(options["model"], options["data_dir"], read_assignments(settings)),
        names=options["tasks"],
    )
    with ending_at_once(), progress(errors) as track:
        return measure_both(request, track, say)


def print_report(found: Forgetting) -> None:
    """A table of what became of each score, the verdicts, what is wrong with the numbers, and what to know of them."""
    console = Console(markup=False, highlight=False)

    def line(text: str = "") -> None:
        console.print(visible(text), soft_wrap=True)

    line(f"before: {found.before.path}")
    line(f"after:  {found.after.path}")
    line()
    print_table(console, _scores(found), "scores ± stderr")
    line()
    print_table(console, _changes(found), "after less before [95 %]")
    line(f"{COUNTS} is the metric that decides about its task")
    line()
    for name, task in found.tasks.items():
        line(f"{name}: {sentence(task.primary)}")
    if len(found.tasks) > 1:
        line(f"all together: {found.verdict}")
    for heading, lines in (("Wrong with the reported numbers:", _flag_lines(found)), ("To know:", list(found.notes))):
        if lines:
            line()
            line(heading)
            for text in lines:
                line(f"- {text}")


def sentence(found: Comparison) -> str:
    """A verdict in words: what it rests on."""
    change, word = found.change, found.verdict
    margin = _amount(found, found.margin)
    if change.low is None or change.high is None:
        return f"{word}: there is no standard error, and so no interval"
    loss = max(0.0, -change.low if found.higher_is_better else change.high)
    if word == "kept":
        sure = " A loss is there, within the margin." if _is_significant_loss(found) else ""
        return f"kept: a loss of more than {_amount(found, loss)} is not compatible with it (margin {margin}).{sure}"
    if word == "lost":
        return f"lost: {_signed(found, change.difference)}, p = {p_value(found.p_holm)} (Holm)"
    ends = f"{_signed(found, change.low)} to {_signed(found, change.high)}"
    shows = "" if change.detectable is None else f"; {_amount(found, change.detectable)} would have shown"
    return f"undecided: anything from {ends} is compatible with it (margin {margin}){shows}"


def _is_significant_loss(found: Comparison) -> bool:
    low, high = found.change.low, found.change.high
    best = high if found.higher_is_better else low
    return best is not None and (best < 0 if found.higher_is_better else best > 0)


def _scores(found: Forgetting) -> Table:
    by_item = any(each.change.fixed is not None for task in found.tasks.values() for each in task.metrics.values())
    table = plain_table("", "n", "before", "after", *["fixed", "broken"] * by_item)
    for name, task in found.tasks.items():
        table.add_row(visible(name))
        for each in task.metrics.values():
            change = each.change
            counts = (change.fixed, change.broken) if by_item else ()
            table.add_row(
                _metric(each),
                "-" if change.n is None else f"{change.n:,}",
                _score(each, change.before, change.before_stderr),
                _score(each, change.after, change.after_stderr),
                *("-" if count is None else f"{count:,}" for count in counts),
            )
    return table


def _changes(found: Forgetting) -> Table:
    table = plain_table("", "difference", "p", "p (Holm)", "detectable", "verdict")
    for name, task in found.tasks.items():
        table.add_row(visible(name))
        for each in task.metrics.values():
            change = each.change
            interval = ""
            if change.low is not None and change.high is not None:
                interval = f" [{_signed(each, change.low)}, {_signed(each, change.high)}]"
            table.add_row(
                _metric(each),
                _signed(each, change.difference) + interval,
                p_value(change.p_value),
                p_value(each.p_holm) if each.counts else "",
                "-" if change.detectable is None else _amount(each, change.detectable),
                each.verdict if each.counts else f"({each.verdict})",
            )
    return table


def _metric(found: Comparison) -> str:
    """A metric's name below its task's."""
    return f"  {visible(found.metric)}" + (f" {COUNTS}" if found.counts else "")


def _flag_lines(found: Forgetting) -> list[str]:
    return [f"{flag.side}, {flag.task}, {flag.metric}: {flag.reason}" for flag in found.flags]


def _score(of: Comparison, value: float, stderr: float | None) -> str:
    if of.is_share:
        return f"{100 * value:.2f}" + ("" if stderr is None else f" ± {100 * stderr:.2f}") + " %"
    return f"{value:.4f}" + ("" if stderr is None else f" ± {stderr:.4f}")


def _signed(of: Comparison, value: float) -> str:
    return f"{100 * value:+.2f}" if of.is_share else f"{value:+.4f}"


def _amount(of: Comparison, value: float) -> str:
    return f"{100 * value:.2f} points" if of.is_share else f"{value:.4f}"


def p_value(value: float | None) -> str:
    return "-" if value is None else "<1e-300" if value == 0 else f"{value:.2g}"
