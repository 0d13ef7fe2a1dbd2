"""The adapter that a run starts from instead of a fresh one, and the copy of it that stays with the run.

The copy is in `checkpoints/<run>/init/`, beside the checkpoints that descend from it, so that neither a resumed run nor
an evaluation needs the place that it came from.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from peft import LoraConfig, PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from markov_cot.checkpoints.adapter_folder import AdapterFolder, check_folder
from markov_cot.checkpoints.checkpoint import check_base
from markov_cot.checkpoints.manifest import MANIFEST, WEIGHTS, checksum, read_manifest
from markov_cot.config.loading import apply, build_config
from markov_cot.config.schema import Config, Lora, Model
from markov_cot.models.adapter_switch import has_other_parts
from markov_cot.models.linear import NARROW_DTYPES
from markov_cot.models.policy import Policy
from markov_cot.models.roles import CRITIC, REFERENCE, Role
from markov_cot.models.source import ADAPTER_CONFIG
from markov_cot.utils.errors import UserError
from markov_cot.utils.files import replace_file

logger = logging.getLogger(__name__)

INIT = "init"
"""Name of the copy's folder."""
_FILES = (ADAPTER_CONFIG, WEIGHTS)


class InitialAdapter:
    """An adapter's folder, to start from or to refer to."""

    def __init__(self, folder: Path, origin: str) -> None:
        """`origin` is where it was first found. Raises `UserError` for a folder that holds none that can be read."""
        check_folder(folder)
        self.origin = origin
        self._trained_on = read_manifest(folder).base if (folder / MANIFEST).is_file() else None
        self._folder, self._adapter = folder, AdapterFolder(folder)
        self.about = {
            "path": origin,
            "fingerprint": checksum(folder / WEIGHTS),
            "config": checksum(folder / ADAPTER_CONFIG),
        }
        """As a manifest has it."""

    def resolve(self, config: Config) -> Config:
        """Return the config with the adapter's own rank, alpha and layers.

        Raises `UserError` where one of them was set to something else.
        """
        own = self._shape()
        for key in sorted(own.keys() & config.lora.model_fields_set):
            given = getattr(config.lora, key)
            if _comparable(given) != _comparable(own[key]):
                raise UserError(
                    f"lora.{key} {given}: the adapter {self.origin} has {own[key]}, which counts; leave the setting out"
                )
        settings = {f"lora.{key}": value for key, value in own.items()} | {"lora.init": self.origin}
        return build_config(apply(config.model_dump(mode="json"), settings), f"adapter {self.origin}")

    def _shape(self) -> dict[str, Any]:
        values, usual = self._adapter.config, LoraConfig()
        layers = values.get("target_modules") or []
        return {
            "rank": values.get("r", usual.r),
            "alpha": values.get("lora_alpha", usual.lora_alpha),
            "target_modules": layers if isinstance(layers, str) else sorted(layers),
        }

    def check_tokenizer(self, tokenizer: PreTrainedTokenizerFast, config: Model) -> None:
        """Raise `UserError` where the adapter was trained on other tokens than its base's, which a run reads."""
        if not self._adapter.has_tokenizer:
            return
        own = self._adapter.load_tokenizer(config)
        if own.get_vocab() != tokenizer.get_vocab():
            raise UserError(
                f"adapter {self.origin}: was trained with other tokens than those of {config.name}; put its tokenizer "
                "into a copy of the base's folder, and pass that with --model"
            )
        if own.chat_template != tokenizer.chat_template:
            logger.warning(
                "%s: has a chat template of its own, which is not used; prompts are in that of %s",
                self.origin,
                config.name,
            )

    def put_on(self, base: PreTrainedModel, names: Mapping[str, str]) -> PeftModel:
        """Return the base with the adapter, to be trained. `names` are the base's name and fingerprint.

        Raises `UserError` for another base than the adapter's, and for an adapter that cannot be trained here.
        """
        if self._trained_on:
            check_base(self._folder, self._trained_on, names["name"], names["fingerprint"])
        rows = len(base.get_input_embeddings().weight)
        model = self._adapter.put_on(base, trainable=True)
        if len(base.get_input_embeddings().weight) != rows:
            raise UserError(
                f"adapter {self.origin}: was trained with tokens added to its base, which a run's checkpoints do not "
                "hold; resize the base as for its training, save it and pass its folder with --model"
            )
        if base.dtype in NARROW_DTYPES and has_other_parts(model):
            raise UserError(
                f"adapter {self.origin}: has modules or tokens of its own (modules_to_save, trainable_token_indices), "
                f"which are trained in float32, and the base is in {str(base.dtype).removeprefix('torch.')}; set "
                "model.dtype=float32"
            )
        return model

    @property
    def size(self) -> int:
        """Bytes of its copy."""
        return sum((self._folder / name).stat().st_size for name in _FILES)

    def copy_to(self, folder: Path) -> None:
        """Copy the adapter's own two files. Raises `OSError`."""
        folder.mkdir(exist_ok=True)
        for name in _FILES:
            replace_file(folder / name, (self._folder / name).read_bytes())


def copy_of(run_folder: Path, origin: str, about: Mapping[str, str] | None) -> InitialAdapter:
    """Return the copy in a run's folder of checkpoints, which must be what `about`, of a manifest, says where given.

    Raises `UserError` when it is missing or another one.
    """
    folder = run_folder / INIT
    if all((folder / name).is_file() for name in _FILES):
        found = InitialAdapter(folder, origin)
        if about is None or found.about == about:
            return found
    raise UserError(
        f"run {run_folder.name}: {folder} is not the adapter that the run started from; put a copy of {origin} there, "
        "as it was"
    )


def keep_for_roles(policy: Policy, lora: Lora) -> None:
    """Have the frozen roles that `lora` names compute with the policy's adapter as it is now, the run's first."""
    named: dict[Role, str] = {CRITIC: lora.critic, REFERENCE: lora.reference}
    policy.adapter.keep_for([role for role, which in named.items() if lora.init and which == "init"])


def _comparable(value: Any) -> Any:
    return value if isinstance(value, str | float | int) else sorted(value)
