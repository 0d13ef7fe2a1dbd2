"""`markov-cot sample`."""

from __future__ import annotations

import click


@click.command("sample")
@click.argument("question", required=False)
@click.option("--choice", "choices", multiple=True, metavar="TEXT", help="An option of a typed question; repeatable.")
@click.option("--dataset", metavar="D", help="Show problems of this dataset (default: the one trained on).")
@click.option("--n", "count", type=click.IntRange(1), default=3, show_default=True, help="How many problems.")
@click.option("--split", type=click.Choice(["test", "validation"]), default="validation", show_default=True)
@click.option("--checkpoint", metavar="NAME|PATH", help="As for eval [best].")
@click.option("--run", metavar="NAME", help="Run that --checkpoint is looked for in (default: the newest).")
@click.option("--model", help="Base model: nano (bundled), a local folder, or a hub id.")
@click.option("--data-dir", metavar="DIR", help="Folder with the dataset's original files.")
@click.option("--temperature", type=click.FloatRange(0), default=0, metavar="T", help="Of the CoT; 0 is greedy [0].")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of problems and sampled CoTs.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="A setting, as in --set rollout.length=64.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list instead.")
def sample_command(
    question: str | None, choices: tuple[str, ...], settings: tuple[str, ...], as_json: bool, **options: object
) -> None:
    """Show questions, the chain of thought, and the answer given from that alone, for base and checkpoint."""
    from markov_cot.cli.sampling import run_sample

    run_sample(question, choices, options, settings, as_json=as_json)
