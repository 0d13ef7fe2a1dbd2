"""What `markov-cot sweep show` does: read the options, print tables or JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from markov_cot.analysis.sweep_cautions import Show, cautions, settings_text, shown_by
from markov_cot.analysis.sweep_cells import CellTable
from markov_cot.analysis.sweep_columns import Asked
from markov_cot.analysis.sweep_effects import Contrast
from markov_cot.analysis.sweep_report import Sweep, SweepRequest, analyse
from markov_cot.analysis.sweep_report import as_json as document_of
from markov_cot.analysis.sweep_steps import Difference, Plateau
from markov_cot.cli.tables import plain_table, print_table
from markov_cot.utils.text import visible

MOST_TABLES = 3
"""Tables of two settings that are printed; the JSON has all."""


def run_show(options: Mapping[str, Any], *, as_json: bool) -> None:
    """Analyse a sweep as asked and print what it shows."""
    sweep = analyse(make_request(options))
    warnings = cautions(sweep)
    if as_json:
        print(json.dumps(document_of(sweep, warnings)))
    else:
        print_sweep(sweep, warnings)


def make_request(options: Mapping[str, Any]) -> SweepRequest:
    """Return the options as a request."""
    names = [name.strip() for text in options["settings"] for name in text.split(",")]
    asked = Asked(
        metric=options["metric"],
        step=options["step"],
        run=options["run"],
        settings=tuple(name for name in names if name),
        lower_is_better=options["lower_is_better"],
    )
    return SweepRequest(
        Path(options["source"]), asked, tuple(options["where"]), tuple(options["patterns"]), options["seed"]
    )


def print_sweep(sweep: Sweep, warnings: Sequence[str]) -> None:
    """Print what was read, the tables, the best setting, and what the data do not carry."""
    console, show = Console(markup=False, highlight=False), shown_by(sweep)

    def line(text: str = "") -> None:
        console.print(visible(text), soft_wrap=True)

    for text in heading(sweep):
        line(text)
    line()
    print_table(console, _shares(sweep), visible(_shares_title(sweep)))
    line()
    print_table(
        console, _means(sweep, show), visible(f"mean {sweep.table.metric} of the runs, and less the best level")
    )
    for table in most_dependent(sweep):
        line()
        title = f"{table.a.name} by {table.b.name}: mean (runs)"
        print_table(console, _cells(table, show), visible(title))
    if sweep.plateau:
        line()
        title = f"checkpoints less the final one, within {sweep.plateau.runs} runs"
        print_table(console, _steps(sweep.plateau, show), title)
        line(f"from {sweep.plateau.flat_from} on, no step differs from the last by more than its interval")
    line()
    for text in best_lines(sweep, show):
        line(text)
    if warnings:
        line()
        line("What these data do not carry:")
        for text in warnings:
            line(f"- {text}")


def heading(sweep: Sweep) -> list[str]:
    """Return what was read and how: the runs, the columns, what was dropped."""
    table, covered = sweep.table, sweep.coverage
    better = "lower" if table.lower_is_better else "higher"
    rows = f", {len(table.y_N)} rows at {len(table.step.levels)} steps" if table.step else ""
    runs = str(covered.most) if covered.fewest == covered.most else f"{covered.fewest} to {covered.most}"
    lines = [
        f"{sweep.request.source}: {table.metric} ({better} is better) of {len(table.runs)} runs{rows}",
        f"settings: {', '.join(f'{each.name} ({len(each.levels)})' for each in table.settings)}; {covered.run} of "
        f"{covered.possible} combinations, {runs} {'run' if runs == '1' else 'runs'} each",
    ]
    if table.left_out:
        lines.append("no settings: " + "; ".join(f"{name} ({reason})" for name, reason in table.left_out.items()))
    return [*lines, *table.notes]


def most_dependent(sweep: Sweep) -> list[CellTable]:
    """Return the tables of the settings that depend on each other most, by their interaction's share."""
    shares = {names: sweep.shares.terms[names].share for names in sweep.cells if names in sweep.shares.terms}
    return [sweep.cells[names] for names in sorted(shares, key=lambda names: -shares[names])[:MOST_TABLES]]


def best_lines(sweep: Sweep, show: Show) -> list[str]:
    """Return the best single value, and the best combination."""
    best = sweep.best
    step = f", {sweep.table.step.name} {best.row_step}" if sweep.table.step and best.row_step else ""
    runs = f"mean of {best.runs} runs" if best.runs > 1 else "one run"
    return [
        f"best single value: {show(best.row)} ({settings_text(best.row_settings)}{step}), of {best.rows}",
        f"best combination: {show(best.score)} ({settings_text(best.settings)}; {runs}), of {best.combinations}",
    ]


def _shares_title(sweep: Sweep) -> str:
    how = {"anova": "orthogonal analysis of variance", "shapley": "Shapley shares of R^2; the grid is not balanced"}
    return f"share of the variance [95 % over runs], {how[sweep.shares.method]}"


def _shares(sweep: Sweep) -> Table:
    table = plain_table("", "share", "95 %", "p (F)")
    for size in (1, 2):
        terms = [(term, each) for term, each in sweep.shares.terms.items() if len(term) == size]
        for term, each in sorted(terms, key=lambda pair: -pair[1].share):
            interval = "-" if each.low is None or each.high is None else f"{each.low:.1%} to {each.high:.1%}"
            p_value = "-" if each.p_value is None else _p_value(each.p_value)
            table.add_row(visible(" x ".join(term)), f"{each.share:.1%}", interval, p_value)
    return table


def _means(sweep: Sweep, show: Show) -> Table:
    table = plain_table("", "runs", "mean", "95 %", "less best", "± by runs", "± by rows")
    for name, effect in sweep.effects.items():
        for each in effect.means:
            interval = "-" if each.low is None or each.high is None else f"{show(each.low)} to {show(each.high)}"
            less = _contrast(effect.contrasts.get(each.level), show)
            if each.level == effect.reference:
                less = ("best", "", "")
            table.add_row(visible(f"{name} {each.level}"), str(each.n), show(each.mean), interval, *less)
    return table


def _contrast(each: Contrast | None, show: Show) -> tuple[str, str, str]:
    if each is None:
        return "-", "", ""
    own, naive = (None if value is None else show(value) for value in (each.stderr, each.stderr_rows))
    return show(each.difference), own or "-", naive or "-"


def _cells(found: CellTable, show: Show) -> Table:
    table = plain_table("", *(f"{found.b.name} {level}" for level in found.b.levels))
    for level, row in zip(found.a.levels, found.cells, strict=True):
        cells = ("-" if cell.mean is None else f"{show(cell.mean)} ({cell.n})" for cell in row)
        table.add_row(visible(f"{found.a.name} {level}"), *cells)
    return table


def _steps(found: Plateau, show: Show) -> Table:
    table = plain_table("step", "mean", "less final", "±", "95 %", "above", "below", "p (Holm)")
    for row in found.rows[:-1]:
        counts = (str(row.difference.above), str(row.difference.below))
        table.add_row(row.step, show(row.mean), *_difference(row.difference, show), *counts, _p_value(row.p_holm))
    table.add_row(found.rows[-1].step, show(found.rows[-1].mean), "final", "", "", "", "", "")
    chosen = {"each run's best": found.best, "chosen by others": found.chosen}
    for name, each in chosen.items():
        if each:
            table.add_row(name, "", *_difference(each, show), str(each.above), str(each.below), "")
    return table


def _p_value(value: float) -> str:
    return f"{value:.2f}" if value >= 0.1 else f"{value:.2g}"


def _difference(each: Difference, show: Show) -> tuple[str, str, str]:
    if each.stderr is None or each.low is None or each.high is None:
        return show(each.mean), "-", "-"
    return show(each.mean), show(each.stderr), f"{show(each.low)} to {show(each.high)}"
