"""Evaluation suites: short YAML files that name datasets, splits and limits, typed and checked like recipes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from markov_cot.config.base import Group, NotNegative, Positive, PositiveFloat, Seed
from markov_cot.config.yaml_files import packaged_folder, read_text_file, read_yaml
from markov_cot.data.catalog import nearest
from markov_cot.data.own import own_name
from markov_cot.utils.errors import UserError

SUITES = ("markov_cot.suites", "eval")


class SuiteTask(Group):
    """One dataset of a suite."""

    dataset: str
    """As in `data.dataset`."""
    recipe: str | None = None
    """Whose `data` settings are used, and with the base all others too; by default the one named like the dataset."""
    subset: str | None = None
    """As in `data.subset`."""
    name: str | None = None
    """What it is called in tables and files; by default the dataset, with the subset and a split other than test."""
    split: Literal["test", "validation"] = "test"
    limit: Positive | None = None
    """Items, drawn with the seed; all of the split by default."""
    samples: Positive = 1
    """CoTs an item."""
    temperature: PositiveFloat | None = None
    """Greedy by default, or the run's own temperature when there are several samples."""
    extractors: tuple[str, ...] = ()
    """All that need no optional dependency by default."""
    direct: Literal["endings", "letters", "generate", "loss"] | None = None
    """How it is asked without a CoT, the question in view; see `direct_tasks`. With a CoT by default."""
    shots: NotNegative = 0
    """Worked examples before a question that is asked directly."""

    @property
    def title(self) -> str:
        """`name`, or what it is by default."""
        parts = (own_name(self.dataset), self.subset, None if self.split == "test" else self.split)
        return self.name or "_".join(part for part in parts if part)


class Suite(Group):
    """A list of tasks."""

    seed: Seed = 0
    """Of the items drawn and of sampled CoTs."""
    tasks: tuple[SuiteTask, ...]


def suite_names() -> list[str]:
    """Names of the installed suites."""
    folder = packaged_folder(*SUITES)
    return sorted(f.name.removesuffix(".yaml") for f in folder.iterdir() if f.name.endswith(".yaml"))


def read_suite(name_or_path: str) -> Suite:
    """An installed suite (by name) or a YAML file (by path). Raises `UserError` naming the key that is wrong."""
    path = Path(name_or_path)
    if path.suffix in (".yaml", ".yml"):
        text, where = read_text_file(path, "suite"), f"suite {path}"
    elif name_or_path in suite_names():
        text = (packaged_folder(*SUITES) / f"{name_or_path}.yaml").read_text(encoding="utf-8")
        where = f"suite {name_or_path}"
    else:
        raise UserError(f"suite {name_or_path!r}: not known{nearest(name_or_path, suite_names())}")
    return build_suite(read_yaml(text, where), where)


def build_suite(values: Any, where: str) -> Suite:
    """Validates `values`; a fault becomes one `UserError` that names `where`, the key and what is right."""
    if not isinstance(values, dict):
        raise UserError(f"{where}: expected a mapping with `tasks`, got {type(values).__name__}")
    try:
        suite = Suite.model_validate(values)
    except ValidationError as error:
        # A misspelt key is also a missing one; the misspelling is what helps.
        faults = sorted(error.errors(), key=lambda e: e["type"] == "missing")
        raise UserError(f"{where}: {_explain(faults[0])}") from None
    titles = [task.title for task in suite.tasks]
    if not titles:
        raise UserError(f"{where}: tasks is empty; list at least one dataset")
    if twice := {title for title in titles if titles.count(title) > 1}:
        raise UserError(f"{where}: {min(twice)} is there twice; give one of them a name of its own")
    return suite


def _explain(error: Any) -> str:
    location = error["loc"]
    key = ".".join(str(part + 1) if isinstance(part, int) else part for part in location)
    if error["type"] == "extra_forbidden":
        among = SuiteTask if "tasks" in location[:-1] else Suite
        return f"unknown key {key}{nearest(str(location[-1]), among.model_fields)}"
    if error["type"] == "missing":
        return f"{key} is missing"
    message = error["msg"].removeprefix("Value error, ")
    return f"{key}: {message[0].lower()}{message[1:]}, got {error['input']!r}"
