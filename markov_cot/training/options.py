"""From a recipe and the settings given beside it to a run's config and name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from markov_cot.config.former import in_todays_terms
from markov_cot.config.loading import (
    apply,
    build_config,
    check_code_repeated,
    is_file_of_settings,
    read_recipe,
    recipe_names,
)
from markov_cot.config.schema import ADAPTER_SHAPE, Config
from markov_cot.data.own import own_name
from markov_cot.training.worked import SFT
from markov_cot.utils.errors import UserError

QUICKSTART = "quickstart"
INIT = "lora.init"
OWN_OF_SFT = {
    "steps": "sft.steps",
    "optim.lr": "sft.lr",
    "optim.warmup_steps": "sft.warmup_ratio",
    "optim.schedule": "sft.schedule",
    "optim.weight_decay": "sft.weight_decay",
    "validation.every": "sft.every",
    "validation.patience": "sft.patience",
}
"""Settings of reinforcement learning that supervised fine-tuning has settings of its own for."""


def resolve_config(recipe: str | None, settings: Mapping[str, Any], saved: Path | None = None) -> tuple[Config, str]:
    """Return the validated config and the name that runs of it begin with.

    Args:
        recipe: a recipe's name or a YAML file; None for the one named like the dataset, or the defaults.
        settings: by key, with dots; they override the recipe's.
        saved: the config of a run that is resumed, which takes the recipe's place.

    Raises:
        UserError: for a setting that is wrong, for code of a resumed run that is not named again, and for another
            adapter than the one that it started from.
    """
    dataset = settings.get("data.dataset")
    source = str(saved) if saved else recipe or (dataset if dataset in recipe_names() else None)
    if source is None and dataset is None:
        source = QUICKSTART
    # A dataset of the user's own has no recipe; it starts from the defaults.
    values = read_recipe(source) if source else {}
    if saved:
        values = in_todays_terms(values)
        check_code_repeated(build_config(values, str(saved)), settings, saved.parent.name)
        settings = _without_start(values, settings, saved.parent.name)
    elif INIT in settings and source and not is_file_of_settings(source):
        # What a recipe of ours says of a fresh adapter is nobody's wish for one that is there already.
        values["lora"] = {key: value for key, value in values.get("lora", {}).items() if key not in ADAPTER_SHAPE}
    name = Path(source).stem if source else own_name(str(dataset))
    # What a run may not be called. Whether there is such a file is for whoever reads it to say.
    name = "".join(char if char.isprintable() and char not in "\\:" else "-" for char in name)
    config = build_config(apply(values, settings), source or "settings")
    if config.method == SFT:
        if mistaken := next((key for key in settings if key in OWN_OF_SFT), None):
            raise UserError(f"{mistaken}: is of training by reward; supervised fine-tuning has {OWN_OF_SFT[mistaken]}")
        name = f"{SFT}-{name}"
    return config, name


def _without_start(saved: Mapping[str, Any], settings: Mapping[str, Any], run: str) -> Mapping[str, Any]:
    """The settings without the adapter that a resumed run started from, which may be named again."""
    started, named = saved.get("lora", {}).get("init"), settings.get(INIT)
    is_same = named == started or (named and started and Path(named).expanduser().resolve() == Path(started))
    if INIT in settings and not is_same:
        raise UserError(
            f"{INIT} {named}: run {run} started from {started or 'a fresh adapter'}, which stays; leave it out to "
            "resume the run"
        )
    return {key: value for key, value in settings.items() if key != INIT}
