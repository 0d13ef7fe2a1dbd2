"""The installed recipes, with what each is for and what it changes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from markov_cot.config.loading import RECIPES, build_config, by_key, read_recipe, recipe_names
from markov_cot.config.yaml_files import packaged_folder


@dataclass(frozen=True, slots=True)
class Recipe:
    """One recipe."""

    name: str
    about: str
    """The comment at its top, first line."""
    base: str | None
    """Recipe that it is a variant of; None for the defaults."""
    changes: dict[str, Any]
    """What it sets otherwise than that, by dotted key."""


def list_recipes() -> list[Recipe]:
    """All installed recipes, in alphabetical order."""
    names = recipe_names()
    return [_describe(name, _base(name, names)) for name in names]


def _describe(name: str, base: str | None) -> Recipe:
    before = _settings(read_recipe(base) if base else {})
    changes = {key: value for key, value in _settings(read_recipe(name)).items() if value != before[key]}
    first = (packaged_folder(*RECIPES) / f"{name}.yaml").read_text(encoding="utf-8").partition("\n")[0]
    return Recipe(name, first.removeprefix("#").strip(), base, changes)


def _base(name: str, names: list[str]) -> str | None:
    """gsm8k of gsm8k-paper."""
    return max((each for each in names if name.startswith(f"{each}-")), key=len, default=None)


def _settings(values: dict[str, Any]) -> dict[str, Any]:
    return by_key(build_config(values, "recipe").model_dump(mode="json"))
