"""`markov-cot sample`."""

from __future__ import annotations

from collections.abc import Sequence

import click

PROBLEMS = 3
"""Shown unless --n says otherwise."""


@click.command("sample")
@click.argument("question", required=False)
@click.option("--choice", "choices", multiple=True, metavar="TEXT", help="An option of a typed question; repeatable.")
@click.option("--dataset", metavar="D", help="Show problems of this dataset (default: the one trained on).")
@click.option("--n", "count", type=click.IntRange(1), help="How many problems [3]; with --step, CoTs [all].")
@click.option("--split", type=click.Choice(["test", "validation"]), default="validation", show_default=True)
@click.option("--checkpoint", metavar="NAME|PATH", help="As for eval [best].")
@click.option("--run", metavar="NAME", help="Run that --checkpoint is looked for in (default: the newest).")
@click.option("--step", type=click.IntRange(1), help="Show the CoTs that the run kept of this training step instead.")
@click.option("--model", help="Base model: nano (bundled), a local folder, or a hub id.")
@click.option("--data-dir", metavar="DIR", help="Folder with the dataset's original files.")
@click.option("--temperature", type=click.FloatRange(0), default=0, metavar="T", help="Of the CoT; 0 is greedy [0].")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of problems and sampled CoTs.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="A setting, as in --set rollout.length=64.")
@click.option("--show-prompt", is_flag=True, help="Show what actor and reader read, word for word, and write nothing.")
@click.option("--reader-check", is_flag=True, help="Show what the reader makes of stated answers and of empty CoTs.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead.")
def sample_command(
    question: str | None,
    choices: tuple[str, ...],
    step: int | None,
    run: str | None,
    count: int | None,
    settings: tuple[str, ...],
    show_prompt: bool,
    reader_check: bool,
    as_json: bool,
    **options: object,
) -> None:
    """Show questions, the chain of thought, and the answer given from that alone, for base and checkpoint.

    With --step: the CoTs of a training step, by reward, of a run trained with --set tracking.rollouts=N.
    """
    if show_prompt and reader_check:
        raise click.UsageError("--show-prompt and --reader-check show different things; leave one of them out")
    if step is not None:
        from markov_cot.cli.stored_rollouts import GOES_WITH, show_rollouts

        show_rollouts(step, run, count, settings, _given_beside(GOES_WITH), as_json=as_json)
        return
    if show_prompt or reader_check:
        from markov_cot.cli.reading import run_reader_check, run_show_prompt

        options |= {"run": run, "count": count}
        if show_prompt:
            run_show_prompt(question, choices, options, settings, as_json=as_json)
        else:
            run_reader_check(question, options, settings, as_json=as_json)
        return
    from markov_cot.cli.sampling import run_sample

    run_sample(question, choices, options | {"run": run, "count": count or PROBLEMS}, settings, as_json=as_json)


def _given_beside(names: Sequence[str]) -> list[str]:
    """What the command line gives besides parameters of these names, as it is written there."""
    context = click.get_current_context()
    return [
        parameter.opts[0] if isinstance(parameter, click.Option) else parameter.human_readable_name
        for parameter in context.command.params
        if parameter.name not in names
        and context.get_parameter_source(parameter.name or "") is click.core.ParameterSource.COMMANDLINE
    ]
