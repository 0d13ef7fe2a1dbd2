"""A sweep's YAML file: what all of its runs share, which settings vary and how, and the seeds."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, ValidationError, model_validator

from markov_cot.config.base import Group, Positive, Seed
from markov_cot.config.loading import by_key, nearest
from markov_cot.config.yaml_files import read_text_file, read_yaml, write_value
from markov_cot.utils.errors import UserError

SEED = "seed"
FOLDERS = ("checkpoint.runs_dir", "checkpoint.checkpoints_dir")
SHAPES = ("grid", "list", "random")
"""Ways to say which settings vary; a file has one of them, or seeds alone."""
MOST_CELLS = 10_000
"""A file with more has a zero too many."""

Finite = Annotated[float, Field(allow_inf_nan=False)]
Settings = Annotated[dict[str, Any], AfterValidator(lambda values: by_key(values))]
"""By key with dots, nested, or both."""


class Range(Group):
    """What a random search draws a setting from: one of these."""

    uniform: tuple[Finite, Finite] | None = None
    """Lowest and highest number."""
    log_uniform: tuple[Finite, Finite] | None = None
    """The same, evenly over the logarithm."""
    integer: tuple[int, int] | None = None
    """Lowest and highest whole number."""
    choice: tuple[Any, ...] | None = None
    """Values, equally probable."""

    @model_validator(mode="after")
    def _is_one_range(self) -> Range:
        given = {name: value for name in type(self).model_fields if (value := getattr(self, name)) is not None}
        if len(given) != 1:
            raise ValueError(f"give one of {', '.join(type(self).model_fields)}")
        [(name, values)] = given.items()
        if name == "choice":
            _check_values(values)
        elif not values[0] < values[1]:
            raise ValueError(f"{name} {list(values)}: the lowest comes first")
        elif name == "log_uniform" and values[0] <= 0:
            raise ValueError(f"{name} {list(values)}: the lowest must be above 0")
        return self


class Random(Group):
    """A random search."""

    n: Positive
    """Draws; each is run with every seed. Raising it later adds draws and keeps those that there are."""
    seed: Seed = 0
    """Of the draws, not of the runs."""
    space: dict[str, Any]
    """What each setting is drawn from."""

    @model_validator(mode="after")
    def _has_ranges(self) -> Random:
        if not self.space:
            raise ValueError("space: is empty; give a setting, as in optim.lr: {log_uniform: [1e-5, 1e-3]}")
        _ = self.ranges
        return self

    @property
    def ranges(self) -> dict[str, Range]:
        """The range of each setting, by key with dots."""
        found = {}
        for key, value in by_key(self.space).items():
            if not isinstance(value, dict):
                raise ValueError(
                    f"space.{key}: expected a range, as {{log_uniform: [1e-5, 1e-3]}}, got {write_value(value)}"
                )
            try:
                found[key] = Range.model_validate(value)
            except ValidationError as error:
                raise ValueError(f"space.{key} {write_value(value)}: {_explain(error, Range)}") from None
        return found


class Grid(Group):
    """The whole file."""

    name: str | None = None
    """Of the sweep and its folders; the file's name by default."""
    recipe: str | None = None
    """Recipe's name or path of a YAML file, as for `markov-cot train`."""
    settings: Settings = Field(default_factory=dict)
    """What all runs share."""
    grid: Settings | None = None
    """Values of each setting that varies; all combinations are run."""
    list: tuple[Settings, ...] | None = None
    """Settings of each run, as they are."""
    random: Random | None = None
    """Settings that are drawn."""
    seeds: tuple[Seed, ...] | None = None
    """Each combination is run with each of them; the recipe's seed by default."""
    slurm: dict[str, Any] = Field(default_factory=dict)
    """What a job of `--launcher slurm` asks for, in submitit's words."""

    @model_validator(mode="after")
    def _says_what_varies(self) -> Grid:
        given = [name for name in SHAPES if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)}: give one of them")
        if not given and self.seeds is None:
            raise ValueError(f"nothing varies; give {', '.join(SHAPES)} or seeds")
        if self.list is not None and not self.list:
            raise ValueError("list: is empty; give the settings of each run")
        if self.seeds is not None:
            _check_values(self.seeds, "seeds: ")
        if self.grid is not None:
            if not self.grid:
                raise ValueError("grid: is empty; give a setting, as in optim.lr: [1e-4, 3e-4]")
            for key, values in self.grid.items():
                if not isinstance(values, list):
                    raise ValueError(f"grid.{key}: expected a list of values, got {write_value(values)}")
                _check_values(values, f"grid.{key}: ")
        return self

    @model_validator(mode="after")
    def _has_one_place_for_each_setting(self) -> Grid:
        varied = self.varied
        for key in (*self.settings, *varied):
            if key == SEED:
                raise ValueError("seed: goes into seeds, as in seeds: [0, 1, 2]")
        for key in varied:
            if key in self.settings:
                raise ValueError(f"{key}: varies, and is in settings too; leave it out there")
            if key in FOLDERS:
                raise ValueError(f"{key}: is one for the whole sweep; put it into settings")
        return self

    @model_validator(mode="after")
    def _can_be_run(self) -> Grid:
        if self.size > MOST_CELLS:
            raise ValueError(f"asks for {self.size:,} runs; at most {MOST_CELLS:,} can be planned")
        return self

    @property
    def size(self) -> int:
        """How many runs it asks for."""
        if self.random is not None:
            combinations = self.random.n
        elif self.list is not None:
            combinations = len(self.list)
        else:
            combinations = math.prod(len(values) for values in (self.grid or {}).values())
        return combinations * (1 if self.seeds is None else len(self.seeds))

    @property
    def varied(self) -> tuple[str, ...]:
        """Keys of the settings that vary, in the file's order."""
        if self.random is not None:
            return tuple(self.random.ranges)
        return tuple(dict.fromkeys(key for each in (self.list or [self.grid or {}]) for key in each))


def read_grid(path: Path) -> Grid:
    """Return a sweep's file.

    Raises `UserError` for what is wrong with it; the settings' own names and values are not looked at.
    """
    values = read_yaml(read_text_file(path, "sweep file"), str(path))
    if not isinstance(values, dict):
        raise UserError(f"{path}: expected a mapping with grid, list or random, got {write_value(values)}")
    try:
        return Grid.model_validate(values)
    except ValidationError as error:
        raise UserError(f"{path}: {_explain(error)}") from None


def _check_values(values: Any, where: str = "") -> None:
    """There is one, and none is there twice."""
    if not values:
        raise ValueError(f"{where}has no values; give one or more")
    seen = set()
    for value in values:
        text = repr(value)
        if text in seen:
            raise ValueError(f"{where}{write_value(value)} is there twice; leave one out")
        seen.add(text)


def _explain(error: ValidationError, of: type[Group] = Grid) -> str:
    """The first fault, with its key; a key that is not known before one that is missing."""
    first = min(error.errors(), key=lambda each: each["type"] != "extra_forbidden")
    key = ".".join(map(str, first["loc"]))
    if first["type"] == "extra_forbidden":
        among = (of if len(first["loc"]) == 1 else Random).model_fields
        return f"unknown key {key}{nearest(str(first['loc'][-1]), among) or '; there are ' + ', '.join(among)}"
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "value_error":
        return f"{key}.{message}" if key else message
    message = message.replace("valid tuple", "list").replace("valid dictionary", "mapping")
    got = "" if first["type"] == "missing" else f", got {write_value(first['input'])}"
    return f"{key + ': ' if key else ''}{message[0].lower()}{message[1:]}{got}"
