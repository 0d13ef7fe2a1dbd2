"""`markov-cot sweep`."""

from __future__ import annotations

import click


@click.group("sweep")
def sweep_command() -> None:
    """Sweeps over settings: what they show, and what they do not."""


@sweep_command.command("show")
@click.argument("source", metavar="FOLDER|TABLE.csv")
@click.option("--metric", metavar="M", help="Column of the scores, or a number of the runs' summaries or logs.")
@click.option("--where", multiple=True, metavar="COLUMN=VALUE", help="Rows that count; also !=; repeatable.")
@click.option("--settings", multiple=True, metavar="COLUMN,...", help="Columns that are the settings; repeatable.")
@click.option("--step", metavar="COLUMN", help="Column of a checkpoint's step.")
@click.option("--run", metavar="COLUMN", help="Column of a run's name, which may end in the step.")
@click.option(
    "--pattern",
    "patterns",
    multiple=True,
    metavar="TEXT",
    help="Settings in the runs' names, as in 'rank{rank}-lr{lr}'; the first that matches counts; repeatable.",
)
@click.option(
    "--lower-is-better/--higher-is-better", default=None, help="Of the metric [lower for loss, error, seconds, ...]."
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the bootstrap.")
@click.option("--json", "as_json", is_flag=True, help="Print the JSON document instead of tables.")
def show_command(as_json: bool, **options: object) -> None:
    """Which settings matter, how sure that is, and what the data do not carry.

    TABLE.csv has a row for each run, or for each checkpoint of each run; FOLDER has this project's runs. What the
    columns are is inferred unless an option says it. The unit is the run: its checkpoints are not independent.

    \b
    In a --pattern, {x} is a number or a word, * any text, and
      {lr:e-}    a number whose exponent has lost its minus: 1e5 is 1e-5
      {warm:0.}  digits after a "0." that is left out: 010 is 0.010
      {lr=2e-5}  no text: what names like this one leave unsaid
    """
    from markov_cot.cli.sweeps import run_show

    run_show(options, as_json=as_json)
