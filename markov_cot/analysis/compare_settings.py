"""Settings of several runs: what differs, which runs are seeds of one setting, and which have the same data."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markov_cot.analysis.compare_results import Pooled, pool
from markov_cot.analysis.compare_run import ComparedRun

SEED = "seed"
NAMES = ("checkpoint.", "tracking.", "data.data_dir")
"""Beginnings of the settings that say where a run keeps what it reads and writes, and change no result."""
OF_TRAINING = ("data.data_dir", "data.swap", "data.skip_bad_rows")
"""Settings of the data that the held-out problems do not depend on."""
DATASET = "data.dataset"


@dataclass(frozen=True)
class Setting:
    """Runs that differ in nothing but their seed, and in names and folders."""

    runs: tuple[str, ...]
    members: tuple[str, ...]
    """One run for each seed, in the order of the seeds: what is pooled."""
    pooled: Pooled | None
    """Their final results; None where none has ended."""

    @property
    def repeated(self) -> tuple[str, ...]:
        """Runs whose seed another one has already, which are no further sample of the setting."""
        return tuple(name for name in self.runs if name not in self.members)


def differing(runs: Sequence[ComparedRun]) -> dict[str, dict[str, Any]]:
    """Return the settings that are not the same in all runs, each with its value by run; of a run without it, none."""
    keys = dict.fromkeys(key for run in runs for key in run.settings)
    return {
        key: {run.name: run.settings[key] for run in runs if key in run.settings}
        for key in keys
        if len({_text(run.settings.get(key), key in run.settings) for run in runs}) > 1
    }


def by_setting(runs: Sequence[ComparedRun]) -> tuple[Setting, ...]:
    """Return the settings there are, in the order of their first runs."""
    groups: dict[str, list[ComparedRun]] = {}
    for run in runs:
        groups.setdefault(_identity(run), []).append(run)
    return tuple(_setting(group) for group in groups.values())


def data_of(runs: Sequence[ComparedRun]) -> dict[str, str]:
    """Return by run a name for the data it is validated on: the dataset, and settings of it where these differ."""
    identities = {run.name: _data(run) for run in runs}
    base = {run.name: Path(str(run.settings[DATASET])).name for run in runs}
    named = {}
    for run in runs:
        alike = [identities[other.name] for other in runs if base[other.name] == base[run.name]]
        own = identities[run.name]
        differ = [key for key in own if any(other.get(key) != own[key] for other in alike)]
        more = ", ".join(f"{key}={json.dumps(own[key], ensure_ascii=False)}" for key in differ)
        named[run.name] = f"{base[run.name]} ({more})" if more else base[run.name]
    return named


def _setting(group: Sequence[ComparedRun]) -> Setting:
    first: dict[int, ComparedRun] = {}
    for run in sorted(group, key=lambda run: run.ending is None):  # one that has ended speaks for its seed
        first.setdefault(run.seed, run)
    seeds = [first[seed] for seed in sorted(first)]
    results = {run.seed: run.ending.trained for run in seeds if run.ending}
    return Setting(tuple(run.name for run in group), tuple(run.name for run in seeds), pool(results))


def _identity(run: ComparedRun) -> str:
    kept = {key: value for key, value in run.settings.items() if key != SEED and not key.startswith(NAMES)}
    return json.dumps(kept, sort_keys=True)


def _data(run: ComparedRun) -> dict[str, Any]:
    return {key: value for key, value in run.settings.items() if key.startswith("data.") and key not in OF_TRAINING}


def _text(value: Any, is_there: bool) -> str:
    return json.dumps(value, sort_keys=True) if is_there else ""
