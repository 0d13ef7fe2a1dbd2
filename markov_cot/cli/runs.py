"""`markov-cot runs`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from markov_cot.evaluation.runs import Run


@click.command("runs")
@click.option("--runs-dir", default="runs", show_default=True, metavar="DIR", help="Folder with the runs.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list instead of a table.")
def runs_command(runs_dir: str, as_json: bool) -> None:
    """List the runs: how far each is, its best held-out accuracy, and whether an alarm stopped it."""
    from pathlib import Path

    from markov_cot.evaluation.runs import list_runs

    runs = list_runs(Path(runs_dir))
    if as_json:
        import json
        from dataclasses import asdict

        click.echo(json.dumps([asdict(run) for run in runs], indent=2))
    elif runs:
        _print(runs)
    else:
        click.echo(f"no runs in {runs_dir}/; markov-cot train starts one", err=True)


def _print(runs: list[Run]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from markov_cot.cli.tables import print_table
    from markov_cot.utils.text import visible

    table = Table(box=box.SIMPLE, padding=0, show_edge=False)
    for heading in ("run", "data", "model"):
        table.add_column(heading)
    for heading in ("step", "best"):
        table.add_column(heading, justify="right")
    table.add_column("state")
    for run in runs:
        best = "-" if run.best is None else f"{run.best:.3f}"
        row = (run.name, run.dataset, run.model, f"{run.step}/{run.steps}", best, run.state)
        table.add_row(*map(visible, row))
    print_table(Console(markup=False, highlight=False), table)
