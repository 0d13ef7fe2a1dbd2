"""`markov-cot recipes`."""

from __future__ import annotations

import click

WIDTH = 80


@click.command("recipes")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list instead.")
def recipes_command(as_json: bool) -> None:
    """List the recipes: what each is for, and which settings it changes.

    `markov-cot train NAME` trains one; `markov-cot config NAME` prints all of its settings.
    """
    from markov_cot.config.recipes import list_recipes

    recipes = list_recipes()
    if as_json:
        import json
        from dataclasses import asdict

        click.echo(json.dumps([asdict(recipe) for recipe in recipes], indent=2))
        return

    import textwrap

    from markov_cot.config.yaml_files import write_value

    for recipe in recipes:
        click.echo("\n".join(textwrap.wrap(f"{recipe.name}: {recipe.about}", WIDTH, subsequent_indent="  ")))
        changes = ", ".join(f"{key}={write_value(value)}" for key, value in recipe.changes.items())
        text = f"from {recipe.base or 'the defaults'}: {changes or 'nothing'}"
        indent = "    "
        lines = textwrap.wrap(
            text, WIDTH, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False, break_long_words=False
        )
        click.echo("\n".join(lines))
