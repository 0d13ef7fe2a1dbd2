"""`markov-cot forgetting`."""

from __future__ import annotations

import click


@click.command("forgetting")
@click.argument("sides", metavar="[BEFORE AFTER]", nargs=-1)
@click.option("--run", metavar="NAME", help="Make both sides first: the base, and a checkpoint of this run.")
@click.option("--suite", metavar="NAME|FILE", help="What both are asked, with --run [general].")
@click.option("--checkpoint", metavar="NAME|PATH", help="As for eval [best]; a folder's path needs no --run.")
@click.option("--model", help="Base model: nano (bundled), a local folder, or a hub id.")
@click.option("--data-dir", metavar="DIR", help="Folder with the datasets' original files.")
@click.option(
    "--limit", type=click.IntRange(1), metavar="N", help="Items of each task, drawn with --seed [the suite's]."
)
@click.option("--seed", type=click.IntRange(0), metavar="N", help="Of the items drawn [the suite's].")
@click.option("--out", metavar="DIR", help="Folder for both sides [runs/RUN/analysis].")
@click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", help="A setting, as in --set model.dtype=float32."
)
@click.option("--task", "tasks", multiple=True, metavar="NAME", help="Compare this one; repeatable [all].")
@click.option("--metric", "metrics", multiple=True, metavar="NAME", help="Have this one decide; repeatable.")
@click.option(
    "--margin",
    type=click.FloatRange(0, 100),
    default=2.0,
    show_default=True,
    metavar="POINTS",
    help="How much of a share may be lost, in percentage points.",
)
@click.option(
    "--loss-margin",
    type=click.FloatRange(0),
    default=0.05,
    show_default=True,
    metavar="NATS",
    help="How much worse a token's loss may be, or another score that is no share.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the JSON document instead of tables.")
def forgetting_command(sides: tuple[str, ...], settings: tuple[str, ...], as_json: bool, **options: object) -> None:
    """What did training cost elsewhere? The same items before and after, and whether each task was kept or lost.

    BEFORE and AFTER are evaluation records: a folder with samples_*.jsonl and results_*.json, or one of these files, of
    lm-evaluation-harness or of eval; or a CSV table (task, metric, score, stderr, n) of reported scores, which can only
    be compared as totals.

    With --run both are made first: HellaSwag, an MMLU subject, GSM8K and the loss on Wikipedia, asked directly with the
    question in view, as lm-evaluation-harness does. What was computed is kept.

    \b
    kept       the whole 95 % interval of the difference is above minus the margin
    lost       it is not, and the loss is significant (p < 0.05 after Holm, over tasks)
    undecided  neither: so many items do not tell
    """
    from markov_cot.cli.forgetting_table import run_forgetting

    run_forgetting(sides, options, settings, as_json=as_json)
