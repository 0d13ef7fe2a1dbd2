"""`markov-cot config`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from markov_cot.config.setting_list import Heading, Setting

WIDTH = 80


@click.command("config")
@click.argument("recipe", metavar="[RECIPE|FILE.yaml]", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list instead of YAML.")
def config_command(recipe: str | None, as_json: bool) -> None:
    """Print every setting with its value, default, type and meaning.

    The values are those of RECIPE, or the defaults. What is printed is itself a file that `markov-cot train FILE.yaml`
    reads; single settings are changed with --set, as in --set optim.lr=3e-5.
    """
    from markov_cot.config.loading import build_config, read_recipe
    from markov_cot.config.setting_list import list_settings, walk
    from markov_cot.utils.text import visible

    config = build_config(read_recipe(recipe) if recipe else {}, recipe or "defaults")
    if as_json:
        import json
        from dataclasses import asdict

        click.echo(json.dumps([asdict(setting) for setting in list_settings(config)], indent=2))
        return
    of = f"of {recipe}" if recipe else "at their defaults"
    click.echo(visible(f"# All settings, {of}."))
    click.echo("# markov-cot train FILE.yaml reads what is printed here.")
    for each in walk(config):
        click.echo(visible("\n".join(_lines(each))))


def _lines(each: Heading | Setting) -> list[str]:
    """A setting or the head of a group as lines of YAML."""
    import textwrap

    from markov_cot.config.setting_list import Setting
    from markov_cot.config.yaml_files import write_value, write_yaml

    *groups, name = each.key.split(".")
    indent = "  " * len(groups)
    if not isinstance(each, Setting):
        return ["", *_comment(each.meaning, indent), f"{indent}{name}:"]
    kind = f"{each.meaning} [{each.type}; default {write_value(each.default)}]"
    line = f"{indent}{name}: {write_value(each.value)}"
    if len(line) <= WIDTH or not isinstance(each.value, (dict, list)):
        return [*_comment(kind, indent), line]
    block = write_yaml({name: each.value}, WIDTH - len(indent))
    return [*_comment(kind, indent), *textwrap.indent(block, indent).splitlines()]


def _comment(text: str, indent: str) -> list[str]:
    import textwrap

    return textwrap.wrap(text, WIDTH, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# ")
