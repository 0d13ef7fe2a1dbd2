"""`markov-cot sft`."""

from __future__ import annotations

import time
from typing import Any

import click

from markov_cot.cli.run_options import given_settings, run_options


@click.command("sft")
@click.argument("data", metavar="DATA.jsonl|DATASET", required=False)
@click.option(
    "--from-run", metavar="RUN", help="Learn the CoTs of this run's stored rollouts that had the most reward."
)
@click.option("--top", type=click.IntRange(1), default=1, show_default=True, help="With --from-run: CoTs a question.")
@click.option("--config", "recipe", metavar="RECIPE", help="A recipe's name or a YAML file [that of the dataset].")
@run_options
def sft_command(
    data: str | None, from_run: str | None, top: int, recipe: str | None, settings: tuple[str, ...], **options: Any
) -> int:
    """Warm start: teach an actor written CoTs, token by token, for `train --init` to continue from.

    DATA is a file of your own with question, cot and answer (a teacher's, say), or a dataset that has worked solutions
    (gsm8k, aqua, mathqa, svamp). Steps, learning rate and all else are in the group `sft` of the settings.
    """
    started = time.perf_counter()
    from markov_cot.cli.fine_tuning import Asked, run_sft

    given = given_settings(options, {"steps": "sft.steps"})
    asked = Asked(data, from_run, top, recipe, options["run"], given, settings, options["report"])
    beside = {f"--{name.replace('_', '-')}": options[name] for name in ("resume", "checkpoint", "accept_changes")}
    return run_sft(asked, beside, started, dry=options["dry_run"], as_json=options["as_json"])
