"""YAML as this project reads and writes it, and the YAML files it is installed with."""

from __future__ import annotations

import contextlib
import re
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import yaml

from markov_cot.utils.errors import UserError

_MERGE = "tag:yaml.org,2002:merge"


class _Loader(yaml.SafeLoader):
    """YAML 1.1 reads 3e-5 as text; this loader reads it as the number it is, and refuses a key given twice."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """The mapping as it is written. PyYAML would take the last of two equal keys in silence."""
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        first_lines: dict[Any, int] = {}
        for key_node, _ in node.value:
            if isinstance(key_node, yaml.ScalarNode) and key_node.tag != _MERGE:
                key = self.construct_object(key_node)
                if key in first_lines:
                    problem = f"the key {key_node.value!r} is there twice, the first time in line {first_lines[key]}"
                    raise yaml.constructor.ConstructorError(None, None, problem, key_node.start_mark)
                first_lines[key] = key_node.start_mark.line + 1
        return node


_Quick: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _QuickLoader(_Quick):  # type: ignore[misc]  # libyaml's, ten times as fast, where PyYAML has it
    """Gives what `_Loader` gives, or fails where that may have another opinion."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """The mapping, unless a key may be there twice."""
        written = [str(key.value) for key, _ in node.value]
        found: dict[Any, Any] = super().construct_mapping(node, deep)
        if min(len(found), len(set(written))) < len(written):
            raise yaml.constructor.ConstructorError(problem="a key may be there twice")
        return found


class _Dumper(yaml.SafeDumper):
    """Puts text in quotes that the loader would read as a number, and text of several lines on one."""

    def represent_text(self, text: str) -> yaml.ScalarNode:
        """The text; in double quotes, which write line breaks as escapes, where it has any."""
        style = '"' if len(f"{text}.".splitlines()) > 1 else None
        node: yaml.ScalarNode = self.represent_scalar("tag:yaml.org,2002:str", text, style=style)
        return node


_Dumper.add_representer(str, _Dumper.represent_text)


for _yaml in (_Loader, _QuickLoader, _Dumper):
    _yaml.add_implicit_resolver(
        "tag:yaml.org,2002:float",
        re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"),
        list("-+.0123456789"),
    )


def read_yaml(text: str, where: str) -> Any:
    """Parses YAML; a syntax error names `where` and the line."""
    with contextlib.suppress(yaml.YAMLError, ValueError, LookupError, AttributeError, RecursionError):
        return yaml.load(text, _QuickLoader)  # noqa: S506 - a SafeLoader
    try:
        return yaml.load(text, _Loader)  # noqa: S506 - a SafeLoader
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "not valid YAML"
        raise UserError(f"{where}{line}: {problem}; correct the YAML") from None
    except (ValueError, LookupError, AttributeError) as error:  # a value its tag does not fit, as 2025-13-45 for a date
        raise UserError(f"{where}: {error}; correct the YAML, or put the value in quotes") from None
    except RecursionError:
        raise UserError(f"{where}: is nested too deeply; correct the YAML") from None


def read_text_file(path: Path, what: str) -> str:
    """A file's text. Raises `UserError`, which calls it `what`, where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{what} {path}: does not exist") from None
    except OSError as error:
        raise UserError(f"{what} {path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise UserError(f"{what} {path}: is not UTF-8 text; is it a YAML file?") from None


def packaged_folder(package: str, in_checkout: str) -> Traversable:
    """Folder of YAML files that is installed as `package` and stands in a checkout's root as `in_checkout`."""
    try:
        return resources.files(package)
    except ModuleNotFoundError:  # run as `python -m` from the root of a checkout
        return Path(__file__).parents[2] / in_checkout


def write_value(value: Any) -> str:
    """`value` as YAML on one line, as after `key: `.

    >>> write_value([4, 4]), write_value("3e-5"), write_value(None), write_value(["two\\nlines"])
    ('[4, 4]', "'3e-5'", 'null', '["two\\\\nlines"]')
    """
    text: str = yaml.dump(value, Dumper=_Dumper, default_flow_style=True, width=float("inf"))
    # PyYAML ends a text that stands alone by a line of three dots.
    return text.removesuffix("\n").removesuffix("\n...")


def write_yaml(value: Any, width: int = 80) -> str:
    """`value` as YAML that `read_yaml` reads back to the same; long texts are broken after `width` columns."""
    text: str = yaml.dump(value, Dumper=_Dumper, sort_keys=False, width=width)
    return text
