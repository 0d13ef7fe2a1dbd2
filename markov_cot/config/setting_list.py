"""Every setting with its value, default, type and meaning, read off the schema."""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
from pydantic import AfterValidator, BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import to_jsonable_python

from markov_cot.config.base import Named
from markov_cot.config.schema import Config

NAMES = {int: "whole number", float: "number", str: "text", bool: "true or false", type(None): "null"}


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting of a config."""

    key: str
    """With dots, as `--set` takes it."""
    value: Any
    default: Any
    type: str
    """In words, with its bounds."""
    choices: list[str] | None
    """None where there are no fixed ones."""
    meaning: str


@dataclass(frozen=True, slots=True)
class Heading:
    """A group of settings."""

    key: str
    meaning: str


def list_settings(config: Config) -> list[Setting]:
    """All settings of a config, in the schema's order."""
    return [each for each in walk(config) if isinstance(each, Setting)]


def walk(config: Config) -> Iterator[Heading | Setting]:
    """The settings, each group's after its heading."""
    yield from _walk(config, Config(), "")


def _walk(group: BaseModel, defaults: BaseModel, prefix: str) -> Iterator[Heading | Setting]:
    for name, field in type(group).model_fields.items():
        value, default = getattr(group, name), getattr(defaults, name)
        if isinstance(value, BaseModel):
            meaning = (type(value).__doc__ or "").partition("\n\n")[0]
            yield Heading(prefix + name, " ".join(meaning.split()))
            yield from _walk(value, default, f"{prefix}{name}.")
            continue
        yield Setting(
            key=prefix + name,
            value=to_jsonable_python(value),
            default=to_jsonable_python(default),
            type=_in_words(field.annotation, field.metadata),
            choices=_choices(field.annotation, field.metadata),
            meaning=_meaning(type(group), name),
        )


def _meaning(group: type[BaseModel], name: str) -> str:
    """The field's description; of the group it was inherited from where this one only gives another default."""
    for each in group.__mro__:
        fields: Mapping[str, FieldInfo] = getattr(each, "model_fields", {})
        if name in fields and (text := fields[name].description):
            return " ".join(text.split())
    return ""


def _choices(annotation: Any, metadata: list[Any]) -> list[str] | None:
    if named := _named(metadata):
        return list(named.known)
    return list(get_args(annotation)) if get_origin(annotation) is Literal else None


def _named(metadata: list[Any]) -> Named | None:
    functions = (each.func for each in metadata if isinstance(each, AfterValidator))
    return next((function for function in functions if isinstance(function, Named)), None)


def _in_words(annotation: Any, metadata: list[Any]) -> str:
    """A type as a user would put it.

    >>> _in_words(int | None, [])
    'whole number or null'
    """
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _in_words(parts[0], list(parts[1:]) + metadata)
    if named := _named(metadata):
        return " | ".join([*named.known, "package.module:attribute"])
    if origin is Literal:
        return " | ".join(parts)
    if origin is dict:
        return "mapping"
    if origin in (Union, types.UnionType):
        return " or ".join(_in_words(part, []) for part in parts)
    if origin is tuple:
        kinds = [_in_words(part, []) for part in parts if part is not Ellipsis]
        return f"list of {kinds[0]}" if Ellipsis in parts else f"[{', '.join(kinds)}]"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return f"{{{', '.join(annotation.model_fields)}}}"
    name = NAMES.get(annotation, str(annotation))
    bounds = [bound for each in metadata for bound in _bounds(each)]
    return f"{name} {' and '.join(bounds)}" if bounds else name


def _bounds(metadata: Any) -> Iterator[str]:
    parts = getattr(metadata, "metadata", [metadata])  # an Annotated's Field still holds its own
    for part in parts:
        if isinstance(part, annotated_types.Gt):
            yield f"above {part.gt}"
        if isinstance(part, annotated_types.Ge):
            yield f"of at least {part.ge}"
        if isinstance(part, annotated_types.Lt):
            yield f"below {part.lt}"
