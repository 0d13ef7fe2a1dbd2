"""Whether a run that is resumed is still the run it was: its settings and its data against those of the checkpoint."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from markov_cot.checkpoints.checkpoint import FoundCheckpoint
from markov_cot.config.loading import code_settings, flatten
from markov_cot.config.schema import Config
from markov_cot.data.registry import dataset_names
from markov_cot.utils.errors import UserError
from markov_cot.utils.plugins import provenance
from markov_cot.utils.text import visible

logger = logging.getLogger(__name__)

ACCEPT = "--accept-changes"
FREE = (
    "alarms.",
    "checkpoint.",
    "data.data_dir",
    "data.revision",
    "data.skip_bad_rows",
    "data.test",
    "data.validation",
    "model.device",
    "model.gradient_checkpointing",
    "model.name",
    "model.shard",
    "model.trust_remote_code",
    "optim.micro_batch_tokens",
    "reward.reader_device",
    "rollout.decoder",
    "rollout.engine",
    "sft.epochs",
    "sft.every",
    "sft.patience",
    "sft.rows",
    "sft.steps",
    "steps",
    "tracking.",
    "validation.",
)
"""Beginnings of the settings that may change: what is computed stays the same up to rounding, or is checked itself
(model and data have fingerprints)."""
LENGTHS = ("steps", "sft.steps", "sft.epochs")
"""Those of them that a learning rate which falls to the end depends on."""
METHODS = {"rl": "by reward", "sft": "on written CoTs"}
SOFTWARE = ("markov-cot", "torch", "transformers", "peft")


def check_settings(found: FoundCheckpoint, config: Config, *, accept: bool) -> bool:
    """Names the settings that changed since the checkpoint; whether they change what is computed.

    Raises `UserError` for those, unless `accept`.
    """
    # A setting that the checkpoint's version did not have was at its default.
    saved = flatten(Config().model_dump(mode="json")) | flatten(found.manifest.config)
    changes = _changes(saved, flatten(config.model_dump(mode="json")))
    if "method" in changes:
        before, now = (METHODS[str(value)] for value in changes["method"])
        raise UserError(
            f"run {found.folder.parent.name}: is trained {before}, not {now}; resume it with `markov-cot train "
            f"--resume`, or start another run from it with --init {found.folder}"
        )
    if config.method == "sft":  # what follows from the settings of `sft` and the data, both checked by themselves
        changes = {key: value for key, value in changes.items() if key not in ("steps", "optim.warmup_steps")}
    moved = _moved(changes)
    scheduled = config.optim.schedule != "constant"
    exact = {k: v for k, v in changes.items() if k.startswith(FREE) and not (k in LENGTHS and scheduled)}
    other = {k: v for k, v in changes.items() if k not in exact}
    if other and not accept:
        raise UserError(
            f"run {found.folder.parent.name}: differs from {found.folder.name} in {_list(other)}; the resumed run "
            f"would not be the run it was. Take it back, or pass {ACCEPT}"
        )
    changes |= moved | _changes(found.manifest.software, software(config))
    if changes:
        logger.warning("changed since %s: %s", found.folder.name, visible(_list(changes)))
    return bool(other)


def check_data(found: FoundCheckpoint, data: Mapping[str, str], source: str, *, accept: bool) -> bool:
    """Whether the data differ from what the checkpoint was trained on. Raises `UserError` then, unless `accept`."""
    changed = data["fingerprint"] != found.manifest.data["fingerprint"]
    if changed and not accept:
        raise UserError(
            f"run {found.folder.parent.name}: the problems of {data['name']} ({source}) are not those that "
            f"{found.folder.name} was trained on; bring them back, or pass {ACCEPT}"
        )
    if changed:
        which = visible(f"{data['name']} ({source})")
        logger.warning("changed since %s: the problems of %s", found.folder.name, which)
    return changed


def check_precision(found: FoundCheckpoint, dtype: str, *, accept: bool) -> bool:
    """Whether the base's weights have another dtype than they had. Raises `UserError` then, unless `accept`."""
    before = found.manifest.base.get("dtype", dtype)
    if before == dtype:
        return False
    if not accept:
        raise UserError(
            f"run {found.folder.parent.name}: {found.folder.name} was trained with the base in {visible(before)}, "
            f"which is {dtype} here; set model.dtype={visible(before)}, or pass {ACCEPT}"
        )
    logger.warning("changed since %s: the base's dtype (%s -> %s)", found.folder.name, visible(before), dtype)
    return True


def check_readers(found: FoundCheckpoint, readers: Sequence[Mapping[str, str]], *, accept: bool) -> bool:
    """Whether other models that read are not those that they were. Raises `UserError` then, unless `accept`."""
    before = [reader["fingerprint"] for reader in found.manifest.readers]
    if before == [reader["fingerprint"] for reader in readers]:
        return False
    names = ", ".join(reader["name"] for reader in readers) or "none"
    if not accept:
        raise UserError(
            f"run {found.folder.parent.name}: {found.folder.name} was trained with other readers' weights than "
            f"those of {names}; bring them back, or pass {ACCEPT}"
        )
    logger.warning("changed since %s: the weights of the readers (%s)", found.folder.name, visible(names))
    return True


def note_commit(found: FoundCheckpoint, base: Mapping[str, str]) -> None:
    """Says so when the hub's model has another commit than it had; its weights are checked by their fingerprint."""
    before, now = (names.get("commit") for names in (found.manifest.base, base))
    if before and now and before != now:
        logger.warning(
            "changed since %s: the commit of %s on the hub (%s -> %s); model.revision=%s pins the former",
            found.folder.name,
            visible(base["name"]),
            visible(before),
            visible(now),
            visible(before),
        )


def software(config: Config) -> dict[str, str]:
    """Return the versions that a step's rounding depends on, and where the user's own code comes from."""
    code = {name for names in code_settings(config).values() for name in names}
    return {name: _version(name) for name in SOFTWARE} | {name: provenance(name) for name in sorted(code)}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:  # a checkout that was never installed
        return "checkout"


def _moved(changes: dict[str, tuple[Any, Any]]) -> dict[str, tuple[Any, Any]]:
    """Takes another path of one's own data out of the changes: what the files hold is checked itself."""
    dataset = changes.get("data.dataset")
    if dataset is None or set(dataset) & set(dataset_names()):
        return {}
    return {"data.dataset": changes.pop("data.dataset")}


def _changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    keys = sorted(before.keys() | now.keys())
    return {key: (before.get(key), now.get(key)) for key in keys if before.get(key) != now.get(key)}


def _list(changes: Mapping[str, tuple[Any, Any]]) -> str:
    return ", ".join(f"{key} ({before} -> {now})" for key, (before, now) in changes.items())
