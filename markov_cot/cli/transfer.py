"""`markov-cot transfer`."""

from __future__ import annotations

import click


@click.command("transfer")
@click.argument("run", required=False)
@click.option("--reader", "readers", multiple=True, metavar="MODEL", help="A folder or hub id; repeatable. Needed.")
@click.option("--model", help="Base model, where it has moved: a local folder, or a hub id.")
@click.option("--dataset", metavar="D", help="Whose problems [the one trained on].")
@click.option("--data-dir", metavar="DIR", help="Folder with the dataset's original files.")
@click.option("--split", type=click.Choice(["test", "validation"]), default="test", show_default=True)
@click.option("--n", "limit", type=click.IntRange(1), default=200, show_default=True, help="Problems.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the problems drawn.")
@click.option("--out", metavar="DIR", help="Folder for results and cache [runs/RUN/analysis].")
@click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", help="A setting, as in --set model.dtype=float32"
)
@click.option("--json", "as_json", is_flag=True, help="Print the JSON document instead of tables.")
def transfer_command(run: str | None, settings: tuple[str, ...], as_json: bool, **options: object) -> None:
    """Can other models follow the CoTs that a run learned to write? Over its checkpoints, on held-out problems.

    Every reader scores the true answers after the CoTs of each checkpoint of RUN (default: the newest) and after the
    base's; the difference is what the CoTs tell it. Training CoTs are scored beside them where the run kept them
    (tracking.rollouts).
    """
    from markov_cot.cli.transferring import run_transfer

    run_transfer(run, options, settings, as_json=as_json)
