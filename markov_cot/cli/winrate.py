"""`markov-cot winrate`."""

from __future__ import annotations

import click


@click.command("winrate")
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
@click.option(
    "--format",
    "expected",
    type=click.Choice(["auto", "arena-hard", "alpaca-eval", "csv"]),
    default="auto",
    show_default=True,
    help="What the files are; auto recognises them.",
)
@click.option("--baseline", metavar="NAME", help="Model that the others are measured against [the one in every game].")
@click.option(
    "--opponent",
    default="gpt-4-0314",
    show_default=True,
    metavar="NAME",
    help="Baseline of Arena-Hard v0.1 judgements, which do not name it.",
)
@click.option(
    "--resample",
    "unit",
    type=click.Choice(["questions", "votes"]),
    default="questions",
    show_default=True,
    help="What intervals are over; Arena-Hard itself resamples votes.",
)
@click.option("--resamples", type=click.IntRange(1, 1_000_000), default=10_000, show_default=True, metavar="N")
@click.option(
    "--level",
    type=click.FloatRange(0, 100, min_open=True, max_open=True),
    default=95,
    show_default=True,
    metavar="PERCENT",
    help="Of the intervals.",
)
@click.option(
    "--strong",
    type=click.IntRange(1, 1000),
    default=3,
    show_default=True,
    metavar="VOTES",
    help="What A>>B counts for in judgements; in battle files that is already done.",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the resampling.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
def winrate_command(files: tuple[str, ...], as_json: bool, **options: object) -> None:
    """How often does a judge prefer each model? Win rates, with intervals over the questions.

    FILE is one of Arena-Hard's judgement files (v0.1 or v2.0) or battle files, AlpacaEval's annotations.json, or a CSV
    file of votes with the columns question, model_a, model_b and winner (model_a, model_b or tie); plain or gzipped.
    Several files are counted together.

    Also: Bradley-Terry ratings, how far verdicts depend on which answer is shown first, and the verdicts that could not
    be read.
    """
    from markov_cot.cli.winrates import run_winrate

    run_winrate(files, options, is_json=as_json)
