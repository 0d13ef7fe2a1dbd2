"""`markov-cot probe`."""

from __future__ import annotations

import click


@click.command("probe")
@click.option("--run", metavar="NAME", help="Run that is probed (default: the newest).")
@click.option("--checkpoint", metavar="NAME|PATH", help="As for eval [best].")
@click.option("--model", help="Base model: nano (bundled), a local folder, or a hub id; alone, it is what is probed.")
@click.option("--dataset", metavar="D", help="Whose problems [the one trained on].")
@click.option("--data-dir", metavar="DIR", help="Folder with the dataset's original files.")
@click.option("--split", type=click.Choice(["test", "validation"]), default="test", show_default=True)
@click.option("--n", "limit", type=click.IntRange(1), default=200, show_default=True, help="Problems.")
@click.option("--against", metavar="RUN|PATH", help="Hold it against another run's best checkpoint, or base.")
@click.option("--reader", "readers", multiple=True, metavar="MODEL", help="Who answers, as for eval; repeatable.")
@click.option("--test", "tests", multiple=True, metavar="NAME", help="One of those below; repeatable [all].")
@click.option("--unit", type=click.Choice(["characters", "tokens"]), default="characters", show_default=True)
@click.option("--paraphraser", metavar="MODEL", help="Who words the CoTs differently, for --test paraphrase.")
@click.option("--examples", type=click.IntRange(0), default=2, show_default=True, help="CoTs shown token by token.")
@click.option("--temperature", type=click.FloatRange(0), default=0, metavar="T", help="Of the CoTs; 0 is greedy [0].")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of problems and changes.")
@click.option("--out", metavar="DIR", help="Folder for results and cache [runs/RUN/analysis].")
@click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", help="A setting, as in --set model.dtype=float32"
)
@click.option("--json", "as_json", is_flag=True, help="Print the JSON document instead of tables.")
def probe_command(settings: tuple[str, ...], as_json: bool, **options: object) -> None:
    """Is the chain of thought load-bearing? Change it, and see what becomes of the answer.

    The model writes a chain of thought for each problem; a reader scores the true answer after it, and after what each
    test makes of it. Effects are ln p(answer | CoT) - ln p(answer | changed CoT), in nats per token of the answer.

    \b
    Tests, at 20 to 100 % of the CoT: char_replace, delete, digit_replace, truncate_front, truncate_back,
    early_answering (its first steps alone). Whole: empty, swap (another problem's), shuffle (of its steps),
    filler ("..."), mistakes (one number wrong, the rest written again), paraphrase (by --paraphraser).

    What was computed is kept, and the same command continues where it was interrupted.
    """
    from markov_cot.cli.probing import run_probe

    run_probe(options, settings, as_json=as_json)
