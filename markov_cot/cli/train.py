"""`markov-cot train`."""

from __future__ import annotations

import time
from typing import Any

import click

from markov_cot.cli.run_options import given_settings, run_options


@click.command("train")
@click.argument("config", required=False)
@click.option("--dataset", help="Dataset to train on; also picks the recipe of that name.")
@click.option("--profile", is_flag=True, help="Show where the time of a few steps goes, and write a trace of them.")
@run_options
def train_command(config: str | None, dataset: str | None, profile: bool, **options: Any) -> int:
    """Train an actor.

    CONFIG is a recipe's name or a YAML file. With none, the recipe named like the dataset is used, or the quickstart
    (bundled model, sums) when no dataset is given either.
    """
    started = time.perf_counter()
    from markov_cot.config.loading import read_assignments

    given = {} if dataset is None else {"data.dataset": dataset}
    given |= given_settings(options) | read_assignments(options["settings"])
    run, as_json = options["run"], options["as_json"]
    if options["dry_run"]:
        from markov_cot.cli.dry_run import run_dry

        beside = {f"--{name.replace('_', '-')}": options[name] for name in ("resume", "checkpoint", "accept_changes")}
        return run_dry(config, given, run, started, beside | {"--profile": profile}, as_json=as_json)
    from markov_cot.cli.training import run_train

    return run_train(
        config,
        given,
        run,
        resume=options["resume"],
        accept_changes=options["accept_changes"],
        checkpoint=options["checkpoint"],
        profile=profile,
        report=options["report"],
        as_json=as_json,
    )
