"""Output that fits the terminal: tables that are never wrapped or cut, and progress lines of one line."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from markov_cot.evaluation.statistics import Estimate
from markov_cot.utils.text import visible

_UNLIMITED = 100_000
"""Columns: a width at which no table wraps."""
_BETWEEN = "  "


def print_table(console: Console, table: Table, title: str = "") -> None:
    """Print a table, or where it is wider than the terminal a block of lines for each of its rows.

    The title and a block's lines are left to the terminal to wrap, so that a long name can be copied as one piece.
    """
    if title:
        console.print(title, soft_wrap=True)
    if width_of(console, table) <= console.width:
        console.print(table)
        return
    headings = [str(column.header) for column in table.columns]
    for row, cells in zip(table.rows, zip(*(column.cells for column in table.columns), strict=True), strict=True):
        console.print(cells[0], style=row.style, soft_wrap=True)
        for heading, cell in zip(headings[1:], cells[1:], strict=True):
            if cell:
                console.print(f"{_BETWEEN}{heading}: {cell}", style=row.style, soft_wrap=True)


def width_of(console: Console, table: Table) -> int:
    """Return how many columns of a terminal a table takes where nothing in it is wrapped."""
    return console.measure(table, options=console.options.update(max_width=_UNLIMITED)).maximum


def plain_table(first: str, *headings: str) -> Table:
    """Return a table with no more lines than it needs, numbers to the right of a first column of names."""
    table = Table(box=box.SIMPLE, padding=0, show_edge=False)
    table.add_column(first, no_wrap=True)
    for heading in headings:
        table.add_column(visible(heading), justify="right", no_wrap=True)
    return table


def estimate_cell(each: Estimate) -> str:
    """A signed mean with its interval."""
    if each.low is None or each.high is None:
        return f"{each.mean:+.3f}"
    return f"{each.mean:+.3f} [{each.low:+.3f}, {each.high:+.3f}]"


def fitting(parts: Sequence[str], room: int) -> str:
    """The first of `parts` that fit into `room` columns, two spaces apart; empty ones are left out."""
    shown = ""
    for part in filter(None, parts):
        longer = f"{shown}{_BETWEEN}{part}" if shown else part
        if len(longer) > room:
            break
        shown = longer
    return shown
