"""What a sweep will run: its cells with their whole configs, checked before the first of them starts.

A sweep is a folder of runs, `runs/<sweep>/`, with its plan in `sweep.json`. A cell is an ordinary run in it, recognised
by its config when the sweep's file has been changed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markov_cot.checkpoints.manifest import checksum
from markov_cot.config.grid import SEED, Grid, read_grid
from markov_cot.config.grid_cells import cell_name, cell_settings, number_of
from markov_cot.config.loading import apply, build_config, by_key
from markov_cot.config.schema import Config
from markov_cot.config.yaml_files import write_value, write_yaml
from markov_cot.training.options import resolve_config
from markov_cot.training.sweep_cell import CELLS, attempts_file, output_file, settings_file
from markov_cot.utils.errors import UserError
from markov_cot.utils.files import replace_file
from markov_cot.utils.layout import CONFIG, check_run_name, run_names

PLAN = "sweep.json"
MOST_NAMED = 3
"""Cells or settings that a message lists."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One run of a sweep."""

    name: str
    settings: Mapping[str, Any]
    """Those that the sweep's file varies, by key; without the seed."""
    differing: Mapping[str, Any]
    """All that differ between cells, also because another recipe comes with another dataset."""
    seed: int
    config: Config


@dataclass(frozen=True, slots=True)
class Sweep:
    """A sweep's cells, and where they are."""

    name: str
    file: Path
    sha256: str
    """Of the file."""
    folder: Path
    """Of the runs."""
    common: Mapping[str, Any]
    """The settings, by key, that all cells share."""
    cells: tuple[Cell, ...]
    """In the order of their names."""
    slurm: Mapping[str, Any]
    dropped: tuple[str, ...] = ()
    """Cells of an earlier plan that had not begun and are none any more."""
    notes: tuple[str, ...] = ()
    """What has changed since the last time."""

    @property
    def seeds(self) -> list[int]:
        """Those of the cells."""
        return sorted({cell.seed for cell in self.cells})


def plan_sweep(file: Path) -> Sweep:
    """Return what a sweep's file asks for, with the names that its cells already have.

    Raises `UserError` for a file or a config that is wrong, and for one that runs of the sweep do not fit any more.
    """
    grid = read_grid(file)
    name = _name_of(grid, file)
    configs = list(_configs(grid, file, name))
    folder = Path(configs[0].checkpoint.runs_dir)
    if (folder / CONFIG).exists():
        raise UserError(f"{file}: {folder} is a run; give the sweep another name with name: in the file")
    flat = [_settings_of(config) for config in configs]
    _check_distinct(file, flat)
    earlier = _read_plan(folder)
    dropped = _check_kept(file, folder, flat, earlier)
    varied = _varied(flat)
    shown = _shown(grid, varied)
    names = _names(flat, earlier, shown, has_seeds=grid.seeds is not None)
    cells = [
        Cell(cell, {key: values[key] for key in shown}, {key: values[key] for key in varied}, values[SEED], config)
        for cell, values, config in zip(names, flat, configs, strict=True)
    ]
    added = len(cells) - (len(earlier) - len(dropped)) if earlier else 0
    changes = f"{file} has changed: cells added {added}, dropped {len(dropped)} (which had not begun)"
    return Sweep(
        name=name,
        file=file,
        sha256=checksum(file),
        folder=folder,
        common={key: value for key, value in flat[0].items() if key not in varied},
        cells=tuple(sorted(cells, key=lambda cell: number_of(cell.name))),
        slurm=grid.slurm,
        dropped=dropped,
        notes=(changes,) if added or dropped else (),
    )


def write_plan(sweep: Sweep) -> None:
    """Write sweep.json, and for each cell a file of settings as `markov-cot train` reads it. Raises `OSError`."""
    (sweep.folder / CELLS).mkdir(parents=True, exist_ok=True)
    for name in sweep.dropped:  # before the others are written, which may have the same names
        for file_of in (settings_file, attempts_file, output_file):
            file_of(sweep.folder, name).unlink(missing_ok=True)
    for cell in sweep.cells:
        given = write_yaml(cell.config.model_dump(mode="json", exclude_unset=True)).encode()
        path = settings_file(sweep.folder, cell.name)
        if not path.is_file() or path.read_bytes() != given:
            replace_file(path, given)
    document = {
        "sweep": sweep.name,
        "inputs": {str(sweep.file): sweep.sha256},
        "n": len(sweep.cells),
        "seed": sweep.seeds,
        "settings": dict(sweep.common),
        "cells": {cell.name: dict(cell.differing) for cell in sweep.cells},
    }
    replace_file(sweep.folder / PLAN, (json.dumps(document, indent=1) + "\n").encode())


def _name_of(grid: Grid, file: Path) -> str:
    name = file.stem if grid.name is None else grid.name
    try:
        check_run_name(name)
    except UserError:
        raise UserError(f"{file}: name {name!r} is not a plain name; use letters, digits, '-' and '_'") from None
    return name


def _configs(grid: Grid, file: Path, name: str) -> Iterator[Config]:
    """Each cell's config, in the folders of the sweep."""
    for settings in cell_settings(grid):
        try:
            config, _ = resolve_config(grid.recipe, settings)
        except UserError as error:
            varied = {key: settings[key] for key in (*grid.varied, SEED) if key in settings}
            raise UserError(f"{file}: {_listed(varied)}: {error}") from None
        given = config.checkpoint
        places = {
            "runs_dir": str(Path(given.runs_dir, name)),
            "checkpoints_dir": str(Path(given.checkpoints_dir, name)),
        }
        yield config.model_copy(update={"checkpoint": given.model_copy(update=places)})


def _settings_of(config: Config) -> dict[str, Any]:
    """All of a config by key, as JSON keeps it."""
    return by_key(config.model_dump(mode="json"))


def _varied(flat: Sequence[Mapping[str, Any]]) -> list[str]:
    """Keys whose values differ between cells, in the order of the settings."""
    keys = dict.fromkeys(key for values in flat for key in values)
    return [key for key in keys if any(values.get(key) != flat[0].get(key) for values in flat)]


def _shown(grid: Grid, varied: Sequence[str]) -> list[str]:
    """Keys that tell a cell: those that the file varies, in its order; by other names where it uses none of today's."""
    own = [key for key in grid.varied if key in varied]
    return own or [key for key in varied if key != SEED]


def _read_plan(folder: Path) -> dict[str, dict[str, Any]]:
    """All settings of each cell planned earlier, by name; none where there was no plan."""
    path = folder / PLAN
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        stored = {name: {**document["settings"], **cell} for name, cell in document["cells"].items()}
        for name in stored:
            check_run_name(name)  # files of that name are written and removed
        return {name: _settings_of(build_config(apply({}, values), name)) for name, values in stored.items()}
    except FileNotFoundError:
        if there := run_names(folder, CONFIG):
            raise UserError(
                f"{folder}: holds runs that are no sweep's ({there[0]}); give the sweep another name: in its file"
            ) from None
        return {}
    except (OSError, ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read ({error}); give the sweep another name, or move the folder") from None


def _key(values: Mapping[str, Any]) -> str:
    """All settings as a text that is equal where they are."""
    return json.dumps(values, sort_keys=True)


def _check_distinct(file: Path, flat: Sequence[Mapping[str, Any]]) -> None:
    places: dict[str, int] = {}
    for place, values in enumerate(flat, start=1):
        first = places.setdefault(_key(values), place)
        if first != place:
            raise UserError(f"{file}: cells {first} and {place} have the same settings; leave one of them out")


def _check_kept(
    file: Path, folder: Path, flat: Sequence[Mapping[str, Any]], earlier: Mapping[str, Mapping[str, Any]]
) -> tuple[str, ...]:
    """The cells of an earlier plan that are none any more. Raises `UserError` where one of them has begun."""
    wanted = set(map(_key, flat))
    gone = [name for name, values in earlier.items() if _key(values) not in wanted]
    if begun := [name for name in gone if (folder / name / CONFIG).exists()]:
        raise UserError(f"{file}: has changed, and runs in {folder} do not fit it: {_misfits(begun, earlier, flat)}")
    return tuple(gone)


def _names(
    flat: Sequence[Mapping[str, Any]],
    earlier: Mapping[str, Mapping[str, Any]],
    keys: Sequence[str],
    *,
    has_seeds: bool,
) -> list[str]:
    """The cells' names: those that they already have, and new ones with the numbers after them."""
    texts = list(map(_key, flat))
    known = {text: name for name, values in earlier.items() if (text := _key(values)) in set(texts)}
    number = max(map(number_of, known.values()), default=0)
    for text, values in zip(texts, flat, strict=True):
        if text not in known:
            number += 1
            known[text] = cell_name(number, {key: values[key] for key in keys}, values[SEED] if has_seeds else None)
    return [known[text] for text in texts]


def _misfits(begun: Sequence[str], earlier: Mapping[str, Mapping[str, Any]], flat: Sequence[Mapping[str, Any]]) -> str:
    """Which cells, how the first differs from the cell most like it, and what to do."""
    old = earlier[begun[0]]
    differences = [{key: (old.get(key), new[key]) for key in new if new[key] != old.get(key)} for new in flat]
    nearest = min(differences, key=len)
    changes = [f"{key} was {write_value(was)} and is {write_value(now)}" for key, (was, now) in nearest.items()]
    more = f" and {len(begun) - 1} more" if len(begun) > 1 else ""
    return (
        f"{begun[0]}{more} ({'; '.join(changes[:MOST_NAMED])}); put it back, give the changed file another "
        "name:, or move those runs away"
    )


def _listed(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={write_value(value)}" for key, value in settings.items()) or "settings"
