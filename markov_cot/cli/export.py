"""`markov-cot export`."""

from __future__ import annotations

import click


@click.command("export")
@click.option("--run", metavar="NAME", help="Run that --checkpoint is looked for in (default: the newest).")
@click.option("--checkpoint", metavar="NAME|PATH", help="As for eval, but not base [best].")
@click.option("--model", help="Base model, where the checkpoint's own name for it cannot be found.")
@click.option("--merge", "out", metavar="OUT", required=True, help="Folder to write; must be new or empty.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="A setting, as in --set model.revision=v2.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead.")
def export_command(
    run: str | None,
    checkpoint: str | None,
    model: str | None,
    out: str,
    settings: tuple[str, ...],
    as_json: bool,
) -> None:
    """Merge a checkpoint's adapter into its base: a plain transformers folder, without PEFT.

    The sums are computed in more than the base's own precision and rounded to it once. Then the folder is loaded, and
    its logits are compared with those of base and adapter.
    """
    import json
    from dataclasses import asdict
    from pathlib import Path

    from markov_cot.checkpoints.export import check_out, export_merged
    from markov_cot.cli.quiet import quiet_libraries
    from markov_cot.config.loading import read_assignments
    from markov_cot.evaluation.loaded_model import Overrides, read_source
    from markov_cot.evaluation.locate import default_name, locate
    from markov_cot.utils.errors import UserError
    from markov_cot.utils.text import visible

    quiet_libraries()
    check_out(Path(out))
    overrides = Overrides(model, None, read_assignments(settings))
    checkpoints_dir = overrides.folder("checkpoints_dir")
    ref = locate(checkpoint or default_name(run, checkpoints_dir), run, checkpoints_dir)
    if ref.folder is None:
        raise UserError("--checkpoint base: is the base itself, which is there already; name one with an adapter")
    source = read_source(ref, overrides)
    base = source.model()
    exported = export_merged(ref.folder, source.base if ref.has_manifest else None, base, Path(out))
    if as_json:
        click.echo(json.dumps({"out": out, "checkpoint": str(ref.folder), "base": base.name} | asdict(exported)))
        return
    click.echo(visible(f"{out}: {base.name} with {ref.folder} merged into it, in {exported.dtype}"))
    change = f"the adapter changes them by up to {exported.max_logit_change:.2g}"
    click.echo(f"largest difference of a logit from base + adapter: {exported.max_logit_difference:.2g}; {change}")
    if base.four_bit:
        click.echo("the run read its base in 4 bits; this is the base that those were made from, so logits differ more")
