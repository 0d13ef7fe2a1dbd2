"""`markov-cot sweep`."""

from __future__ import annotations

import click


@click.group("sweep")
def sweep_command() -> None:
    """Sweeps over settings: run them, and see what they show and what they do not."""


@sweep_command.command("run")
@click.argument("file", metavar="GRID.yaml")
@click.option(
    "--launcher", type=click.Choice(["local", "slurm"]), default="local", show_default=True, help="Where cells run."
)
@click.option("--jobs", type=click.IntRange(1), default=1, show_default=True, help="Cells at a time on this machine.")
@click.option("--retry-failed", is_flag=True, help="Run the cells that failed once more.")
@click.option("--dry-run", is_flag=True, help="Check everything and list the cells; run and write nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print the JSON document instead of a table.")
def run_command(file: str, **options: object) -> int:
    """Run a sweep, or what is left of it.

    GRID.yaml says what all runs share and what varies; each cell is an ordinary run in runs/SWEEP/. Interrupted cells
    are resumed, those that are done are left alone.

    \b
    recipe: quickstart             # or a path; as for train
    settings: {steps: 200}         # shared by all
    grid: {optim.lr: [1e-4, 3e-4], lora.rank: [4, 16]}
    seeds: [0, 1]

    Instead of grid, "list" has the settings of each run, and "random" draws them: docs/sweeps.md.
    """
    from pathlib import Path

    from markov_cot.cli.sweep_running import SweepOptions, run_sweep

    return run_sweep(Path(file), SweepOptions(**options))  # type: ignore[arg-type]


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
