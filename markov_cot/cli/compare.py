"""`markov-cot compare`."""

from __future__ import annotations

import click


@click.command("compare")
@click.argument("runs", metavar="RUN RUN...", nargs=-1)
@click.option("--runs-dir", default="runs", show_default=True, metavar="DIR", help="Folder with the runs.")
@click.option("--json", "as_json", is_flag=True, help="Print the JSON document, with curves, instead of tables.")
def compare_command(runs: tuple[str, ...], runs_dir: str, as_json: bool) -> None:
    """Runs side by side: settings that differ, held-out results, paired tests, seeds pooled, and costs.

    RUN is a run's name or its folder. Runs that differ in nothing but the seed, and in names and folders, are seeds of
    one setting: their results are pooled as mean, standard deviation, lowest and highest.

    Paired tests are on the items that two runs have in common, of their evaluation records (`markov-cot eval --run R`)
    and of the held-out problems of their final results: the difference with its 95 % interval, McNemar's exact p, and p
    after Holm over all pairs.
    """
    from markov_cot.cli.comparing import run_compare

    run_compare(runs, runs_dir, as_json=as_json)
