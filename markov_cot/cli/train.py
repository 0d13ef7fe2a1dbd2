"""`markov-cot train`."""

from __future__ import annotations

import time

import click


@click.command("train")
@click.argument("config", required=False)
@click.option("--dataset", help="Dataset to train on; also picks the recipe of that name.")
@click.option("--model", help="nano (bundled), a local folder, or a hub id.")
@click.option("--steps", type=int, help="Optimizer steps.")
@click.option("--run", help="Name of the run (default: the recipe and the time).")
@click.option("--resume", is_flag=True, help="Continue the run named by --run, or the newest.")
@click.option("--checkpoint", metavar="NAME", help="With --resume: continue from adapter_STEP or best, not the newest.")
@click.option("--accept-changes", is_flag=True, help="Resume although settings or data are not what they were.")
@click.option("--seed", type=int, help="Seed of sampling, data order and adapter.")
@click.option("--init", metavar="NAME|PATH", help="Adapter to start from: a checkpoint, or a folder that PEFT wrote.")
@click.option("--data-dir", help="Folder with the dataset's original files.")
@click.option("--skip-bad-rows", is_flag=True, help="Leave out and count broken rows of the data.")
@click.option("--profile", is_flag=True, help="Show where the time of a few steps goes, and write a trace of them.")
@click.option("--dry-run", is_flag=True, help="Check everything, time a few steps, and write nothing.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Any setting, as in --set optim.lr=3e-5.")
@click.option("--json", "as_json", is_flag=True, help="With --dry-run: print JSON instead.")
def train_command(
    config: str | None,
    dataset: str | None,
    model: str | None,
    steps: int | None,
    run: str | None,
    resume: bool,
    checkpoint: str | None,
    accept_changes: bool,
    seed: int | None,
    init: str | None,
    data_dir: str | None,
    skip_bad_rows: bool,
    profile: bool,
    dry_run: bool,
    settings: tuple[str, ...],
    as_json: bool,
) -> int:
    """Train an actor.

    CONFIG is a recipe's name or a YAML file. With none, the recipe named like the dataset is used, or the quickstart
    (bundled model, sums) when no dataset is given either.
    """
    started = time.perf_counter()
    options = {
        "data.dataset": dataset,
        "model.name": model,
        "steps": steps,
        "seed": seed,
        "lora.init": init,
        "data.data_dir": data_dir,
        "data.skip_bad_rows": skip_bad_rows or None,
    }
    from markov_cot.config.loading import read_assignments

    given = {k: v for k, v in options.items() if v is not None} | read_assignments(settings)
    if dry_run:
        from markov_cot.cli.dry_run import run_dry

        beside = {"--resume": resume, "--checkpoint": checkpoint, "--accept-changes": accept_changes}
        return run_dry(config, given, run, started, beside | {"--profile": profile}, as_json=as_json)
    from markov_cot.cli.training import run_train

    return run_train(
        config,
        given,
        run,
        resume=resume,
        accept_changes=accept_changes,
        checkpoint=checkpoint,
        profile=profile,
        as_json=as_json,
    )
