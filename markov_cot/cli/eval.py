"""`markov-cot eval`."""

from __future__ import annotations

import click


@click.command("eval")
@click.option(
    "--checkpoint",
    metavar="NAME|PATH",
    help="adapter_STEP (in the newest run that has it), best, latest, base, or a folder [best].",
)
@click.option("--run", metavar="NAME", help="Run that --checkpoint is looked for in (default: the newest).")
@click.option("--model", help="Base model: nano (bundled), a local folder, or a hub id.")
@click.option("--dataset", "datasets", multiple=True, metavar="D", help="Repeatable; the one trained on by default.")
@click.option("--data-dir", metavar="DIR", help="Folder with the dataset's original files.")
@click.option(
    "--suite", metavar="NAME|FILE", help="Datasets and limits from a YAML file: quick, paper, preference, yours."
)
@click.option("--split", type=click.Choice(["test", "validation"]), help="[test]")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="Items of each dataset, drawn with --seed [all].")
@click.option("--samples", type=click.IntRange(1), metavar="K", help="CoTs an item, for pass@k and maj@k [1].")
@click.option("--temperature", type=click.FloatRange(0), metavar="T", help="0 is greedy [0; for samples, the run's].")
@click.option("--extractor", "extractors", multiple=True, metavar="NAME", help="Rule that reads answers; repeatable.")
@click.option("--seed", type=click.IntRange(0), metavar="N", help="Of the items drawn and of sampled CoTs [0].")
@click.option("--against", metavar="NAME|PATH", help="What to compare with: a checkpoint, base or none [base].")
@click.option(
    "--reader", "readers", multiple=True, metavar="MODEL", help="Who answers: base, actor or another model; repeatable."
)
@click.option("--batch", type=click.IntRange(1), metavar="N", help="CoTs at a time; results do not depend on it.")
@click.option("--all-checkpoints", is_flag=True, help="Every checkpoint of the run: accuracy over steps, and the best.")
@click.option("--out", metavar="DIR", help="Folder for results and cache [runs/RUN/eval].")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="A setting, as in --set rollout.length=64.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of tables.")
def eval_command(settings: tuple[str, ...], all_checkpoints: bool, as_json: bool, **options: object) -> None:
    """Measure accuracy on the test split, with error bars, against the base or another checkpoint.

    The actor writes a chain of thought; the answer is given from it alone. What was computed is kept, and the same
    command continues where it was interrupted.
    """
    from markov_cot.cli.evaluating import run_eval

    run_eval(options, settings, all_checkpoints=all_checkpoints, as_json=as_json)
