"""An adapter's folder as PEFT writes it: a checkpoint of ours, or what PEFT itself, TRL or another tool left.

Whatever is loaded, the base read without the adapter stays the base: that is checked after loading. Of the folder only
adapter_config.json, adapter_model.safetensors and the tokenizer's files are opened; a Trainer's pickles (optimizer,
random state, arguments) may lie beside them.
"""

from __future__ import annotations

import hashlib
import logging
import re
import warnings
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors import SafetensorError, safe_open
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from markov_cot.checkpoints.adapter_config import read_adapter_config
from markov_cot.checkpoints.manifest import WEIGHTS, checksum
from markov_cot.config.schema import Model
from markov_cot.models import loading as models
from markov_cot.models.embedding_rows import MERGE, OtherBaseError, Saved, SavedEmbeddings
from markov_cot.models.lora import use_adapted_linear
from markov_cot.models.source import ADAPTER_CONFIG
from markov_cot.utils.errors import UserError
from markov_cot.utils.text import first_line

logger = logging.getLogger(__name__)

_COPIED = re.compile(r"\.modules_to_save\.|\.token_adapter\.")
PICKLED_WEIGHTS = "adapter_model.bin"
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "added_tokens.json", "special_tokens_map.json")


def check_folder(folder: Path) -> None:
    """Raises `UserError` unless the folder holds an adapter that can be read without running code."""
    if not (folder / ADAPTER_CONFIG).is_file():
        raise UserError(f"checkpoint {folder}: has no {ADAPTER_CONFIG}; give a folder that PEFT or this program wrote")
    if (folder / PICKLED_WEIGHTS).exists():
        remedy = (
            f"remove it, as {WEIGHTS} is there"
            if (folder / WEIGHTS).is_file()
            else "if you trust its source, load it with PEFT and call save_pretrained, which writes safetensors"
        )
        raise UserError(
            f"checkpoint {folder}: {PICKLED_WEIGHTS} is a pickle, which can run code when it is read; {remedy}"
        )
    if not (folder / WEIGHTS).is_file():
        raise UserError(f"checkpoint {folder}: has no {WEIGHTS}; give a folder that PEFT or this program wrote")


class AdapterFolder:
    """An adapter's folder, its config found to be harmless."""

    def __init__(self, folder: Path) -> None:
        """Raises `UserError` for an adapter that cannot be read as it was trained."""
        self.folder = folder
        self._config = read_adapter_config(folder)
        self.has_tokenizer = any((folder / name).is_file() for name in _TOKENIZER_FILES[:2])

    @property
    def config(self) -> Mapping[str, Any]:
        """What its adapter_config.json says."""
        return self._config

    def base(self, given: str | None) -> dict[str, str]:
        """Name, and revision where there is one, of the base the user gave, or else of the one the adapter names.

        Raises `UserError` when neither says.
        """
        if given:
            return {"name": given}
        name, revision = self._config.get("base_model_name_or_path"), self._config.get("revision")
        if not name:
            raise UserError(f"checkpoint {self.folder}: does not name its base model; pass --model")
        pinned = revision is not None and not Path(name).is_dir()
        return {"name": str(name)} | ({"revision": str(revision)} if pinned else {})

    def checksums(self) -> dict[str, str]:
        """SHA-256 of every file that what is computed depends on."""
        names = [ADAPTER_CONFIG, WEIGHTS, *_TOKENIZER_FILES, "chat_template.jinja"]
        return {name: checksum(self.folder / name) for name in names if (self.folder / name).is_file()}

    def fingerprint(self) -> str:
        """Hash of all checksums."""
        return hashlib.sha256(repr(sorted(self.checksums().items())).encode()).hexdigest()

    @property
    def changes_base_tokens(self) -> bool:
        """Whether its base is read with a tokenizer or tokens that the adapter brings."""
        return self.has_tokenizer or any("lora_" not in key for key in self._tensors())

    def load_tokenizer(self, config: Model) -> PreTrainedTokenizerFast:
        """The tokenizer it was trained with, where the folder has one; else the base's."""
        return models.load_tokenizer(config, self.folder if self.has_tokenizer else None)

    def put_on(self, base: PreTrainedModel, *, trainable: bool = False) -> PeftModel:
        """The base with the adapter loaded, `trainable` without dropout. Raises `UserError` when the two do not fit."""
        embeddings = SavedEmbeddings(base, self._tensors(), self._config.get("trainable_token_indices"))
        before = _samples(base, embeddings.names)
        try:
            with warnings.catch_warnings():
                # PEFT asks transformers for an attribute by its old name, and advises about what is checked here.
                warnings.simplefilter("ignore")
                embeddings.resize_base()
                model = self._load(base, trainable)
            embeddings.restore(model)
        except OtherBaseError as error:
            raise UserError(f"checkpoint {self.folder}: {error}") from None
        except (RuntimeError, ValueError, LookupError, OSError, TypeError, AttributeError) as error:
            raise UserError(
                f"checkpoint {self.folder}: does not fit the model {base.name_or_path} ({_reason(error)}); pass its "
                "base with --model"
            ) from None
        models.check_finite(f"checkpoint {self.folder}", model)
        if _samples(model, embeddings.names) != before:
            raise UserError(
                f"checkpoint {self.folder}: loading it changes the weights of its base, so the base is no longer the "
                f"critic; {MERGE}"
            )
        return model

    def _load(self, base: PreTrainedModel, trainable: bool) -> PeftModel:
        config = LoraConfig.from_pretrained(str(self.folder))
        config.inference_mode = not trainable
        if trainable and config.lora_dropout:
            logger.warning(
                "%s: its lora_dropout of %g is left out, as CoTs are sampled and scored by one distribution",
                self.folder,
                config.lora_dropout,
            )
            config.lora_dropout = 0.0
        if not (config.use_dora or config.lora_bias or getattr(base, "is_loaded_in_4bit", False)):
            use_adapted_linear(config)
        model = get_peft_model(base, config)
        result = model.load_adapter(str(self.folder), "default", is_trainable=trainable, torch_device=str(base.device))
        unexpected = self._without_copies(result.unexpected_keys)
        for what, keys in (("the adapter lacks", result.missing_keys), ("the model has no place for", unexpected)):
            if keys:
                raise ValueError(f"{what} {keys[0]}, the first of {len(keys)} tensors")
        models.widen_products(model)
        return model

    def _without_copies(self, unexpected: Collection[str]) -> list[str]:
        """The keys that hold anything new: PEFT writes trained embeddings twice and reads them under one name."""
        tensors = self._tensors()
        with safe_open(self.folder / WEIGHTS, "pt") as file:

            def is_copy(key: str, other: str) -> bool:
                alike = tensors[key] == tensors[other] and key.rpartition(".")[2] == other.rpartition(".")[2]
                return alike and torch.equal(file.get_tensor(key), file.get_tensor(other))

            read = [key for key in tensors if key not in set(unexpected)]
            return [
                key for key in unexpected if not (_COPIED.search(key) and any(is_copy(key, other) for other in read))
            ]

    def _tensors(self) -> dict[str, Saved]:
        try:
            with safe_open(self.folder / WEIGHTS, "pt") as file:
                slices = {key: file.get_slice(key) for key in file.keys()}  # noqa: SIM118 - it is no mapping
                return {key: Saved(tuple(each.get_shape()), each.get_dtype()) for key, each in slices.items()}
        except (OSError, SafetensorError) as error:
            raise UserError(
                f"checkpoint {self.folder}: {WEIGHTS} cannot be read ({first_line(error)}); use another checkpoint"
            ) from None


def _samples(model: PreTrainedModel | PeftModel, without: Collection[str]) -> dict[str, list[float]]:
    """A few values of each of the base's tensors, by name."""
    return {name: values.tolist() for name, _, values in models.weight_samples(model) if name not in without}


def _reason(error: BaseException) -> str:
    """What PyTorch says of the first tensor that does not fit, rather than that there are some."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[1].rstrip(".") if len(lines) > 1 and lines[0].endswith(":") else first_line(error)
