"""Embeddings that a foreign adapter brings along, as it does when tokens were added to its base or taken away.

Such an adapter holds the whole embedding and output matrices that it was trained on. The base is resized as it was
then; the rows that it had before must be the same in the adapter, and stay what they were to the last bit. Where the
adapter holds trained copies beside the base's (modules_to_save), the base's own added rows are the mean of its others,
which is how transformers starts them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor
from transformers import PreTrainedModel

from markov_cot.models.loading import base_name, is_added

HALF = {"BF16": torch.bfloat16, "F16": torch.float16}
_PREFIX = "base_model.model."
MERGE = (
    "merge it into its base with PEFT's merge_and_unload, and give that model with --model (to evaluate it, with "
    "--checkpoint base)"
)
"""What can be done with an adapter that is refused for changing its base."""
_RESIZE = (
    "resize the base as for its training (model.resize_token_embeddings), save it and pass its folder with --model"
)


class OtherBaseError(ValueError):
    """An adapter's embeddings are not those of the base with rows added; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Saved:
    """A tensor in an adapter's file."""

    shape: tuple[int, ...]
    dtype: str
    """As safetensors names it: F32, BF16..."""


class SavedEmbeddings:
    """The base's embedding and output matrices, and what an adapter's file holds of them."""

    def __init__(self, base: PreTrainedModel, tensors: Mapping[str, Saved], token_indices: Any) -> None:
        """Remembers the base's matrices as they are.

        Args:
            tensors: shape and dtype of the tensors in the adapter's file.
            token_indices: PEFT's `trainable_token_indices`.
        """
        self._base, self._tensors = base, tensors
        self._largest_index = max(_flat(token_indices), default=-1)
        layers = (base.get_input_embeddings(), base.get_output_embeddings())
        weights = {id(layer.weight) for layer in layers if layer is not None}
        self._originals = {
            name: weight.detach().clone() if self._saved(name) else weight.detach()
            for name, weight in base.named_parameters()
            if id(weight) in weights
        }

    @property
    def names(self) -> list[str]:
        """The matrices' names in the base."""
        return list(self._originals)

    def _saved(self, name: str) -> list[Saved]:
        """What the adapter's file holds of a matrix, under its own name or within the adapter's layer around it."""
        layer = f"{_PREFIX}{name.removesuffix('weight')}"
        wrappers = ("", "base_layer.", "token_adapter.base_layer.", "original_module.")
        keys = [f"{layer}{wrapper}weight" for wrapper in wrappers]
        return [self._tensors[key] for key in keys if key in self._tensors]

    @torch.no_grad()
    def resize_base(self) -> None:
        """Gives the base as many rows as the adapter was trained with. Raises `OtherBaseError` where it has no way."""
        old = next(iter(self._originals.values())).shape[0]
        saved = {each.shape[0] for name in self.names for each in self._saved(name)}
        adapted = {each.shape[1] for key, each in self._tensors.items() if key.endswith("lora_embedding_A")}
        rows = max(saved, default=old)
        if max(adapted | {rows, self._largest_index + 1}) > rows or len(saved) > 1:
            counts = sorted(saved | adapted | ({self._largest_index + 1} if self._largest_index >= rows else set()))
            raise OtherBaseError(
                f"was trained with tokens added to its base ({counts[-1]}, where the base has {old}) and does not hold "
                f"their embeddings; {_RESIZE}"
            )
        if rows != old:
            with torch.random.fork_rng():
                torch.manual_seed(0)
                self._base.resize_token_embeddings(rows)
            self._base.requires_grad_(False)

    @torch.no_grad()
    def restore(self, model: PeftModel) -> None:
        """Puts the base's rows back where the adapter's file has overwritten them with the same in another dtype.

        Raises `OtherBaseError` where they are not the same.
        """
        for name, parameter in model.named_parameters():
            original = None if is_added(name) else self._originals.get(base_name(name))
            if original is None:
                continue
            rows = min(len(original), len(parameter))
            half = [HALF[each.dtype] for each in self._saved(base_name(name)) if each.dtype in HALF]
            if not _same(parameter[:rows], original[:rows], half):
                raise OtherBaseError(
                    f"holds other values of its base's {base_name(name)}, which was trained in place and cannot be "
                    f"switched off to leave the base; {MERGE}"
                )
            parameter[:rows] = original[:rows]


def _same(found: Tensor, original: Tensor, half: Sequence[torch.dtype]) -> bool:
    """Whether they are equal, or would be in the half precision that the adapter was saved in."""
    return torch.equal(found, original) or any(torch.equal(found.to(dtype), original.to(dtype)) for dtype in half)


def _flat(indices: Any) -> list[int]:
    """PEFT takes a list of indices, or one for each layer by its name."""
    lists = indices.values() if isinstance(indices, Mapping) else [indices or []]
    return [index for each in lists for index in each]
