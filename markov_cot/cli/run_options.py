"""The options that all commands have which train."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

OPTIONS = (
    click.option("--model", help="nano (bundled), a local folder, or a hub id."),
    click.option("--steps", type=int, help="Optimizer steps."),
    click.option("--run", help="Name of the run [the recipe and the time]."),
    click.option("--resume", is_flag=True, help="Continue the run named by --run, or the newest."),
    click.option("--checkpoint", metavar="NAME", help="With --resume: from adapter_STEP or best, not the newest."),
    click.option("--accept-changes", is_flag=True, help="Resume although settings or data are not what they were."),
    click.option("--seed", type=int, help="Seed of sampling, data order and adapter."),
    click.option("--init", metavar="NAME|PATH", help="Adapter to start from: a checkpoint, or a folder of PEFT's."),
    click.option("--data-dir", help="Folder with the dataset's original files."),
    click.option("--skip-bad-rows", is_flag=True, help="Leave out and count broken rows of the data."),
    click.option("--report/--no-report", default=True, help="Write report.html into the run's folder [yes]."),
    click.option("--dry-run", is_flag=True, help="Check everything, time a few steps, and write nothing."),
    click.option(
        "--set", "settings", multiple=True, metavar="KEY=VALUE", help="Any setting, as in --set lora.rank=16."
    ),
    click.option("--json", "as_json", is_flag=True, help="With --dry-run: print JSON instead."),
)
KEYS = {
    "model": "model.name",
    "steps": "steps",
    "seed": "seed",
    "init": "lora.init",
    "data_dir": "data.data_dir",
    "skip_bad_rows": "data.skip_bad_rows",
}
"""Settings that have an option of their own."""


def run_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command all of them, in this order."""
    for option in reversed(OPTIONS):
        command = option(command)
    return command


def given_settings(options: dict[str, Any], keys: dict[str, str] | None = None) -> dict[str, Any]:
    """Return the settings, by key, of the options that were given. A flag that was not is no setting."""
    named = (KEYS | (keys or {})).items()
    return {key: options[name] for name, key in named if options[name] is not None and options[name] is not False}
