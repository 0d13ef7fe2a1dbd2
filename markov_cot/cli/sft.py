"""`markov-cot sft`."""

from __future__ import annotations

import time

import click


@click.command("sft")
@click.argument("data", metavar="DATA.jsonl|DATASET", required=False)
@click.option(
    "--from-run", metavar="RUN", help="Learn the CoTs of this run's stored rollouts that had the most reward."
)
@click.option("--top", type=click.IntRange(1), default=1, show_default=True, help="With --from-run: CoTs a question.")
@click.option("--config", "recipe", metavar="RECIPE", help="A recipe's name or a YAML file [that of the dataset].")
@click.option("--model", help="nano (bundled), a local folder, or a hub id.")
@click.option("--steps", type=int, help="Optimizer steps [as many as sft.epochs needs].")
@click.option("--run", help="Name of the run (default: sft, the recipe and the time).")
@click.option("--resume", is_flag=True, help="Continue the run named by --run, or the newest.")
@click.option("--checkpoint", metavar="NAME", help="With --resume: continue from adapter_STEP or best, not the newest.")
@click.option("--accept-changes", is_flag=True, help="Resume although settings or data are not what they were.")
@click.option("--seed", type=int, help="Seed of data order and adapter.")
@click.option("--init", metavar="NAME|PATH", help="Adapter to start from: a checkpoint, or a folder that PEFT wrote.")
@click.option("--data-dir", help="Folder with the dataset's original files.")
@click.option("--skip-bad-rows", is_flag=True, help="Leave out and count broken rows of the data.")
@click.option("--dry-run", is_flag=True, help="Check everything, time a few steps, and write nothing.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Any setting, as in --set sft.lr=1e-4.")
@click.option("--json", "as_json", is_flag=True, help="With --dry-run: print JSON instead.")
def sft_command(
    data: str | None,
    from_run: str | None,
    top: int,
    recipe: str | None,
    run: str | None,
    resume: bool,
    checkpoint: str | None,
    accept_changes: bool,
    dry_run: bool,
    settings: tuple[str, ...],
    as_json: bool,
    **options: object,
) -> int:
    """Warm start: teach an actor written CoTs, token by token, for `train --init` to continue from.

    DATA is a file of your own with question, cot and answer (a teacher's, say), or a dataset that has worked solutions
    (gsm8k, aqua, mathqa, svamp). Steps, learning rate and all else are in the group `sft` of the settings.
    """
    started = time.perf_counter()
    from markov_cot.cli.fine_tuning import Asked, run_sft

    keys = {
        "model": "model.name",
        "steps": "sft.steps",
        "seed": "seed",
        "init": "lora.init",
        "data_dir": "data.data_dir",
        "skip_bad_rows": "data.skip_bad_rows",
    }
    options["skip_bad_rows"] = options["skip_bad_rows"] or None
    given = {keys[name]: value for name, value in options.items() if value is not None}
    asked = Asked(data, from_run, top, recipe, run, given, settings)
    beside = {"--resume": resume, "--checkpoint": checkpoint, "--accept-changes": accept_changes}
    return run_sft(asked, beside, started, dry=dry_run, as_json=as_json)
