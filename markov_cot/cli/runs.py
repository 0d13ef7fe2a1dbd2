"""`markov-cot runs`."""

from __future__ import annotations

import click


@click.command("runs")
@click.option("--runs-dir", default="runs", show_default=True, metavar="DIR", help="Folder with the runs.")
@click.option(
    "--sort",
    "by",
    default="name",
    show_default=True,
    metavar="KEY",
    help="name, when, dataset, model, steps, result or state; -KEY for the largest first.",
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list instead of a table.")
def runs_command(runs_dir: str, by: str, as_json: bool) -> None:
    """List the runs, a line each: since when, how far, its best held-out result, whether an alarm stopped it.

    Columns that do not fit the terminal are left out: model, then when, then data.
    """
    from markov_cot.cli.run_table import run_listing

    run_listing(runs_dir, by, as_json=as_json)
