"""A sweep's whole analysis, and the JSON document of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from markov_cot.analysis.sweep_best import Best, best_setting
from markov_cot.analysis.sweep_cells import CellTable, cell_tables
from markov_cot.analysis.sweep_columns import Asked, Columns, find_columns, name_column, with_steps
from markov_cot.analysis.sweep_design import Confound, Coverage, confounds, coverage
from markov_cot.analysis.sweep_effects import Contrast, Mean, SettingEffect, setting_effects
from markov_cot.analysis.sweep_names import with_names_read
from markov_cot.analysis.sweep_rows import read_csv, where
from markov_cot.analysis.sweep_shares import RESAMPLES, Shares, variance_shares
from markov_cot.analysis.sweep_steps import Plateau, plateau
from markov_cot.analysis.sweep_table import SweepTable, build_table

FORMAT = 1


@dataclass(frozen=True, slots=True)
class SweepRequest:
    """What is to be shown."""

    source: Path
    """A CSV or TSV file, or a folder of runs."""
    asked: Asked = field(default_factory=Asked)
    where: tuple[str, ...] = ()
    patterns: tuple[str, ...] = ()
    seed: int = 0
    resamples: int = RESAMPLES


@dataclass(frozen=True)
class Sweep:
    """What a sweep shows."""

    request: SweepRequest
    inputs: Mapping[str, str]
    """SHA-256 of each file."""
    columns: Columns
    table: SweepTable
    coverage: Coverage
    confounds: list[Confound]
    effects: Mapping[str, SettingEffect]
    shares: Shares
    cells: Mapping[tuple[str, str], CellTable]
    plateau: Plateau | None
    best: Best


def analyse(request: SweepRequest) -> Sweep:
    """Return what a sweep shows. Raises `UserError` for input that cannot be read, or that is no sweep."""
    asked = request.asked
    if request.source.is_dir():
        from markov_cot.analysis.sweep_runs import read_runs

        rows = read_runs(request.source, asked.metric)
    else:
        rows = read_csv(request.source)
    if request.patterns:
        rows = with_names_read(rows, name_column(rows, asked), request.patterns)
    rows = where(with_steps(rows, asked), request.where)
    columns = find_columns(rows, asked)
    table = build_table(rows, columns)
    return Sweep(
        request=request,
        inputs=rows.inputs,
        columns=columns,
        table=table,
        coverage=coverage(table),
        confounds=confounds(table),
        effects=setting_effects(table),
        shares=variance_shares(table, seed=request.seed, resamples=request.resamples),
        cells=cell_tables(table),
        plateau=plateau(table),
        best=best_setting(table),
    )


def as_json(sweep: Sweep, cautions: list[str]) -> dict[str, Any]:
    """Return the document."""
    table, request = sweep.table, sweep.request
    return {
        "format": FORMAT,
        "inputs": dict(sweep.inputs),
        "settings": {
            "metric": table.metric,
            "lower_is_better": table.lower_is_better,
            "run": sweep.columns.run,
            "step": table.step.name if table.step else None,
            "seeds": list(sweep.columns.seeds),
            "where": list(request.where),
            "pattern": list(request.patterns),
            "resamples": request.resamples,
        },
        "n": len(table.runs),
        "rows": len(table.y_N),
        "seed": request.seed,
        "factors": {each.name: list(each.levels) for each in (*table.settings, *((table.step,) if table.step else ()))},
        "left_out": dict(table.left_out),
        "coverage": asdict(sweep.coverage),
        "method": sweep.shares.method,
        "explained": sweep.shares.explained,
        "shares": {":".join(term): asdict(share) for term, share in sweep.shares.terms.items()},
        "means": {
            name: {each.level: _but_level(each) for each in found.means} for name, found in sweep.effects.items()
        },
        "contrasts": {name: _contrasts(found) for name, found in sweep.effects.items()},
        "cells": {":".join(names): _cells(each) for names, each in sweep.cells.items()},
        "steps": None if sweep.plateau is None else asdict(sweep.plateau),
        "best": asdict(sweep.best),
        "confounds": [
            {"values": [list(value) for value in each.values], "runs": each.runs} for each in sweep.confounds
        ],
        "notes": list(table.notes),
        "cautions": cautions,
    }


def _contrasts(effect: SettingEffect) -> dict[str, Any]:
    levels = {level: each and _but_level(each) for level, each in effect.contrasts.items()}
    return {"reference": effect.reference, "levels": levels}


def _but_level(found: Mean | Contrast) -> dict[str, Any]:
    return {key: value for key, value in asdict(found).items() if key != "level"}


def _cells(table: CellTable) -> dict[str, Any]:
    return {
        "rows": list(table.a.levels),
        "columns": list(table.b.levels),
        "mean": [[cell.mean for cell in row] for row in table.cells],
        "n": [[cell.n for cell in row] for row in table.cells],
        "deviation": [[cell.deviation for cell in row] for row in table.cells],
        "pooled_deviation": table.pooled,
        "unequal_deviations": table.is_unequal,
        "corner": None if table.corner is None else asdict(table.corner),
    }
