"""What was run: settings that are not the recipe's, what it cost, and how to do it again."""

from __future__ import annotations

import json
import math
import shlex
import statistics
from collections.abc import Mapping
from typing import Any

from markov_cot.analysis.compare_costs import RESAMPLED, sampled_tokens
from markov_cot.analysis.report.sources import Source
from markov_cot.checkpoints.manifest import checksum
from markov_cot.config.loading import build_config, flatten, read_recipe, recipe_names
from markov_cot.config.yaml_files import write_value
from markov_cot.utils.layout import ALARMS, CONFIG, ENVIRONMENT, LOG, SAMPLES, SUMMARY

NOT_OF_A_RECIPE = ("checkpoint.runs_dir", "checkpoint.checkpoints_dir")
SAMPLED = ("rollout.problems", "rollout.samples", "rollout.length")
"""What the tokens of a step depend on."""
FILES = (CONFIG, ENVIRONMENT, LOG, ALARMS, SAMPLES, SUMMARY)


def environment(source: Source) -> dict[str, Any]:
    """Return what the run's environment.json says; empty where there is none, as of runs of before."""
    if source.run is None:
        return {}
    try:
        found = json.loads((source.run.folder / ENVIRONMENT).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(found, dict):
        return {}
    starts = found.get("starts")
    is_list = isinstance(starts, list) and all(isinstance(start, dict) for start in starts)
    return found if is_list else found | {"starts": []}


def settings(source: Source, recipe: str | None) -> dict[str, Any] | None:
    """Return the recipe and the settings that differ from it; None for a log alone.

    Without a recipe's name it is held against the nearest: that with the fewest differences.
    """
    if source.run is None:
        return None
    own = source.settings
    names = [recipe] if recipe in recipe_names() else recipe_names()
    recipes = {name: _recipe(name) for name in names}
    nearest = min(recipes, key=lambda name: (len(_changed(own, recipes[name])), name))
    return {"recipe": nearest, "is_nearest": nearest != recipe, "changes": _changes(own, recipes[nearest])}


def _recipe(name: str) -> dict[str, Any]:
    return flatten(build_config(read_recipe(name), f"recipe {name}").model_dump(mode="json"))


def _changes(own: Mapping[str, Any], recipe: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """By key, values as they are written on a command line; a setting that one side lacks is null."""
    return {key: {"value": _written(own, key), "recipe": _written(recipe, key)} for key in _changed(own, recipe)}


def _changed(own: Mapping[str, Any], recipe: Mapping[str, Any]) -> list[str]:
    keys = dict.fromkeys([*recipe, *own])
    return [key for key in keys if key not in NOT_OF_A_RECIPE and own.get(key) != recipe.get(key)]


def _written(settings: Mapping[str, Any], key: str) -> str | None:
    return write_value(settings[key]) if key in settings else None


def cost(source: Source, about: Mapping[str, Any]) -> dict[str, Any]:
    """Return time (of the steps alone), tokens sampled, peak memory and device, as far as the log has them."""
    columns = source.columns
    seconds = columns.get("perf/step_seconds", {})
    steps = len(seconds)
    # A config of another version may lack them.
    is_rl = source.setting("method", "rl") == "rl" and all(key in source.settings for key in SAMPLED)
    resampled = math.fsum(columns.get(RESAMPLED, {}).values())
    starts = about.get("starts") or [{}]
    return {
        "steps": steps or None,
        "step_seconds": sum(seconds.values()) if seconds else None,
        "median_step_seconds": statistics.median(seconds.values()) if seconds else None,
        "sampled_tokens": sampled_tokens(source.settings, steps, resampled) if is_rl else None,
        "peak_memory_bytes": max(columns.get("perf/peak_memory_bytes", {0: 0.0}).values()) or None,
        "device": starts[-1].get("device"),
        "device_name": starts[-1].get("device_name"),
        "processes": about.get("processes"),
        "starts": len(about["starts"]) if about.get("starts") else None,
    }


def reproduction(source: Source, recipe: Mapping[str, Any] | None, about: Mapping[str, Any]) -> dict[str, Any]:
    """Return the command that trains the same again, versions, fingerprints and checksums of the run's files."""
    folder = source.run.folder if source.run else source.log.parent
    names = FILES if source.run else (source.log.name,)
    return {
        "command": _command(source, recipe, about) if recipe else None,
        "seed": source.setting("seed"),
        "software": about.get("software", {}),
        "base": about.get("base"),
        "data": about.get("data"),
        "starts": about.get("starts", []),
        "files": {name: checksum(folder / name) for name in names if (folder / name).is_file()},
    }


def _command(source: Source, recipe: Mapping[str, Any], about: Mapping[str, Any]) -> str:
    """With every setting that is not the recipe's; the file of the run's own config would do as well."""
    verb = "sft" if source.setting("method") == "sft" else "train"
    named = "--config" if verb == "sft" else None
    changes = {key: each["value"] for key, each in recipe["changes"].items() if each["value"] is not None}
    changes.pop("method", None)
    words = ["markov-cot", verb, *([named] if named else []), recipe["recipe"]]
    for key, value in changes.items():
        words += ["--set", f"{key}={value}"]
    return shlex.join(words)
