"""From YAML recipes and `--set group.key=value` to a validated config, and back."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from markov_cot.config.former import in_todays_terms, renamed
from markov_cot.config.prompt import is_template
from markov_cot.config.schema import Config
from markov_cot.config.yaml_files import packaged_folder, read_text_file, read_yaml, write_yaml
from markov_cot.utils.errors import UserError
from markov_cot.utils.plugins import is_code

RECIPES = ("markov_cot.configs", "configs")


def recipe_names() -> list[str]:
    """Names of the installed recipes."""
    folder = packaged_folder(*RECIPES)
    return sorted(f.name.removesuffix(".yaml") for f in folder.iterdir() if f.name.endswith(".yaml"))


def is_file_of_settings(name_or_path: str) -> bool:
    """Whether it is the path of a YAML file, rather than a recipe's name."""
    path = Path(name_or_path)
    return path.suffix in (".yaml", ".yml") or path.is_file()


def read_recipe(name_or_path: str) -> dict[str, Any]:
    """The mapping in a recipe (by name) or a YAML file (by path)."""
    if is_file_of_settings(name_or_path):
        path = Path(name_or_path)
        text, where = read_text_file(path, "config file"), str(path)
    elif name_or_path in recipe_names():
        text = (packaged_folder(*RECIPES) / f"{name_or_path}.yaml").read_text(encoding="utf-8")
        where = f"recipe {name_or_path}"
    else:
        names = recipe_names()
        raise UserError(
            f"recipe {name_or_path!r}: not known{nearest(name_or_path, names)}; there are {', '.join(names)}"
        )
    values = read_yaml(text, where)
    if not isinstance(values, dict):
        raise UserError(f"{where}: expected a mapping of settings, got {type(values).__name__}")
    for key in values:
        if not isinstance(key, str):
            raise UserError(f"{where}: unknown key {key!r}; keys are words")
    return values


def set_value(values: dict[str, Any], key: str, value: Any, where: str = "") -> None:
    """Set one setting, by its key with dots, in nested mappings. `where` names the source in the message."""
    *groups, last = key.strip().split(".")
    for group in groups:
        if values.get(group) is None:
            values[group] = {}
        inner = values[group]
        if not isinstance(inner, dict):
            raise UserError(f"{where or key}: {group} is a setting, not a group")
        values = inner
    values[last] = value


def read_assignments(assignments: Iterable[str]) -> dict[str, Any]:
    """Return the `key=value` of each `--set` by key; a later one counts.

    Values are read as YAML, but for templates, whose braces and colons it would take for its own: those are text as it
    stands, unless quoted.
    """
    found: dict[str, Any] = {}
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals or not key.strip():
            raise UserError(f"--set {assignment}: expected key=value, as in --set optim.lr=3e-5")
        is_text = is_template(key.strip()) and text[:1] not in ('"', "'") and text != "null"
        found[key.strip()] = text if is_text else read_yaml(text, f"--set {assignment}")
    return found


def apply(values: dict[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Set settings given by key in nested mappings, in place."""
    for given, wanted in settings.items():
        key, value = renamed(given, wanted)
        set_value(values, key, value, f"--set {given}")
    return values


def by_key(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return settings given as nested mappings, as keys with dots, or as both, by key with dots.

    A mapping that is itself a setting's value (`reward.args`) stays one.
    """
    found: dict[str, Any] = {}
    for key, value in settings.items():
        full = f"{prefix}{key}"
        if isinstance(value, Mapping) and _is_group(full.split(".")):
            found |= by_key(value, f"{full}.")
        else:
            found[full] = value
    return found


def build_config(values: Mapping[str, Any], where: str) -> Config:
    """Validates `values`; every fault becomes one `UserError` that names `where`, the key and what is right."""
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise UserError(f"{where}: {'; '.join(_explain(e) for e in error.errors()[:3])}") from None


def read_saved(path: Path) -> Config:
    """Return the config that a run was saved with, in today's terms. Raises `UserError` where it cannot be read."""
    return build_config(in_todays_terms(read_recipe(str(path))), str(path))


def dump_config(config: Config) -> str:
    """The resolved config as YAML that `read_recipe` reads back to the same config."""
    return write_yaml(config.model_dump(mode="json"))


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one with dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def _explain(error: Any) -> str:
    location = _location(error["loc"])
    key = ".".join(location)
    if error["type"] == "extra_forbidden":
        return f"unknown key {key}{_nearest_key(location)}"
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "value_error" and not _is_group(location):
        return f"{key} {error['input']!r}: {message}"
    if error["type"] == "value_error":
        return f"{key}.{message}" if key and ":" in message else message
    return f"{key + ': ' if key else ''}{message[0].lower()}{message[1:]}, got {error['input']!r}"


def _location(loc: tuple[int | str, ...]) -> list[str]:
    """The keys that lead to a setting. What pydantic adds is a place in a tuple or an alternative of a union."""
    group: Any = Config
    keys: list[str] = []
    for part in loc:
        if not isinstance(part, str) or not _fields_of(group):
            break
        keys.append(part)
        field = _fields_of(group).get(part)
        group = field.annotation if field else None
    return keys


def _is_group(location: list[str]) -> bool:
    """Whether the keys lead to a group of settings rather than to one setting."""
    group: Any = Config
    for part in location:
        field = _fields_of(group).get(part)
        group = field.annotation if field else None
    return bool(_fields_of(group))


def _nearest_key(location: list[str]) -> str:
    group: type[BaseModel] = Config
    for part in location[:-1]:
        annotation = group.model_fields[part].annotation
        assert isinstance(annotation, type) and issubclass(annotation, BaseModel)
        group = annotation
    prefix = "".join(f"{part}." for part in location[:-1])
    elsewhere = [
        f"{g}.{location[-1]}" for g, f in Config.model_fields.items() if location[-1] in _fields_of(f.annotation)
    ]
    if elsewhere:
        return f"; did you mean {elsewhere[0]}?"
    return nearest(location[-1], group.model_fields, prefix) or f"; there are {', '.join(group.model_fields)}"


def _fields_of(annotation: Any) -> Mapping[str, Any]:
    return annotation.model_fields if isinstance(annotation, type) and issubclass(annotation, BaseModel) else {}


def nearest(word: str, among: Iterable[str], prefix: str = "") -> str:
    """ "; did you mean X?" for the closest of `among`, or nothing."""
    close = difflib.get_close_matches(word, list(among), n=1)
    return f"; did you mean {prefix}{close[0]}?" if close else ""


def code_settings(config: Config) -> dict[str, tuple[str, ...]]:
    """Return the settings that name the user's own code (`package.module:attribute`), and what they name."""
    found: dict[str, tuple[str, ...]] = {}
    for key, value in flatten(config.model_dump(mode="json")).items():
        names = tuple(each for each in (value if isinstance(value, list) else [value]) if is_code(each))
        if names and not key.startswith(_NEVER_CODE):
            found[key] = names
    return found


_NEVER_CODE = ("model.", "checkpoint.", "data.data_dir", "alarms.own_args.", "prompt.")
"""Beginnings of the settings whose values may look like code and never are."""


def code_to_repeat(config: Config) -> dict[str, str | list[str]]:
    """Return the settings that name the user's own code, as they have to be given again to resume."""
    flat = flatten(config.model_dump(mode="json"))
    return {key: flat[key] for key in code_settings(config)}


def check_code_repeated(saved: Config, given: Mapping[str, Any], run: str) -> None:
    """Raise `UserError` unless the user names again what code a run was started with.

    A run's folder may come from anywhere, and runs no code by itself.
    """
    known = flatten(given)
    for key, names in code_settings(saved).items():
        value = known.get(key)
        repeated = value if isinstance(value, list | tuple) else [value]
        if key not in known or not set(names) <= {str(each) for each in repeated}:
            whole = code_to_repeat(saved)[key]
            again = f"{key}={whole}" if isinstance(whole, str) else f"'{key}=[{','.join(whole)}]'"
            in_python = ", or from Python reward=" if key == "reward.function" else ""
            raise UserError(
                f"run {run}: was started with {key}={', '.join(names)}, which is code; to run it again pass "
                f"--set {again}{in_python}"
            )
