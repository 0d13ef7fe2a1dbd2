"""A base with an adapter merged into it, as a plain transformers folder.

Each weight W + s B A is computed in float32, of a float32 base in float64, and rounded once to the base's own dtype.
What is in the folder is compared with base and adapter apart, both computed in that wider dtype, so that the difference
is what rounding the weights makes of the logits.
"""

from __future__ import annotations

import gc
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from peft import PeftModel
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from markov_cot.checkpoints.adapter_folder import AdapterFolder
from markov_cot.checkpoints.checkpoint import check_base
from markov_cot.config.schema import Model
from markov_cot.models import loading as models
from markov_cot.models.compat import context_length
from markov_cot.models.linear import NARROW_DTYPES
from markov_cot.models.lora import MergedAdapter
from markov_cot.utils.errors import UserError
from markov_cot.utils.files import new_folder
from markov_cot.utils.text import first_line

CPU = torch.device("cpu")
TEXTS = (
    "What is 17 + 25 + 4?\n17 + 25 = 42. 42 + 4 = 46.\nAnswer: 46\n",
    "A pen costs 3 dollars and a book 12 dollars. Two pens and a book cost 2 * 3 + 12 = 18 dollars.",
    "Water boils at a lower temperature on a mountain, because the air presses less on it there.",
)
"""Whose logits are compared, at every token."""
Shared = tuple[nn.Module, nn.Module, str]
"""Two modules that have one parameter, and its name in the second."""


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written."""

    dtype: str
    """The base's own, in which it is."""
    max_logit_difference: float
    """The largest difference between a logit of the folder's model and that of base and adapter."""
    max_logit_change: float
    """The largest difference that the adapter makes, between a logit of base and adapter and that of the base."""


def check_out(out: Path) -> None:
    """Raise `UserError` where something is already."""
    if out.is_symlink() or (out.exists() and not (out.is_dir() and not any(out.iterdir()))):
        raise UserError(f"--merge {out}: is there already, and nothing is overwritten; give a new or an empty folder")


def export_merged(folder: Path, trained_on: Mapping[str, str] | None, config: Model, out: Path) -> Exported:
    """Write the base that `config` names, with the adapter in `folder` merged into it, to the folder `out`.

    Takes main memory for the base in the wider dtype. A base that is otherwise read in 4 bits is read whole. Where it
    fails, nothing is left behind.

    Args:
        folder: an adapter's.
        trained_on: name and fingerprint of the adapter's base; None for an adapter without a manifest.
        config: the base.
        out: nothing, or an empty folder.

    Raises:
        UserError: for another base than the adapter's, for a quantised one, and for what cannot be merged or saved.
        OSError: when the disk refuses.
    """
    check_out(out)
    config = config.model_copy(update={"four_bit": False, "gradient_checkpointing": False, "shard": False})
    adapter = AdapterFolder(folder)
    tokenizer = models.load_tokenizer(config) if trained_on else adapter.load_tokenizer(config)
    merged, expected, dtype = _merge(adapter, trained_on, config, tokenizer)
    with new_folder(out) as temporary:
        try:
            merged.save_pretrained(temporary)
            tokenizer.save_pretrained(temporary)
        except (RuntimeError, TypeError, ValueError) as error:
            raise UserError(f"--merge {out}: transformers does not save the model ({first_line(error)})") from None
        del merged
        gc.collect()
        there = config.model_copy(update={"name": str(temporary), "revision": None})
        found = _logits(models.load_base(there, CPU, _wide(dtype)), tokenizer)
    difference, change = _largest(found, expected[True]), _largest(expected[True], expected[False])
    return Exported(str(dtype).removeprefix("torch."), difference, change)


def _merge(
    adapter: AdapterFolder, trained_on: Mapping[str, str] | None, config: Model, tokenizer: PreTrainedTokenizerFast
) -> tuple[PreTrainedModel, dict[bool, list[Tensor]], torch.dtype]:
    """The merged model in the base's own dtypes, the logits of the base with the adapter and without, and its dtype."""
    base = models.load_base(config, CPU, "auto")
    if getattr(base, "is_quantized", False):
        raise UserError(
            f"model {config.name}: its weights are quantised, and what is merged into them could not be rounded to "
            "that; pass the base that they were made from with --model"
        )
    if trained_on:
        check_base(adapter.folder, trained_on, config.name, models.fingerprint(base))
    dtype, dtypes = base.dtype, {name: tensor.dtype for name, tensor in _tensors(base)}
    model = adapter.put_on(base.to(_wide(dtype))).eval()
    with MergedAdapter(model).by_peft():
        expected = {True: _logits(model, tokenizer)}
        with model.disable_adapter():
            expected[False] = _logits(model, tokenizer)
    merged = _merged(model, adapter.folder)
    with torch.no_grad():
        for name, tensor in _tensors(merged):
            tensor.data = tensor.data.to(dtypes.get(name, dtype))
    return merged, expected, dtype


def _merged(model: PeftModel, folder: Path) -> PreTrainedModel:
    """The base with the adapter in its weights. Tied weights stay tied where they are still the same."""
    base = model.get_base_model()
    configs = [base.config, base.config.get_text_config()]
    ties = [getattr(config, "tie_word_embeddings", False) for config in configs]
    shared = _untie(base)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PEFT's advice about tied weights, which is followed here
            merged: PreTrainedModel = model.merge_and_unload()
    except (NotImplementedError, RuntimeError, ValueError) as error:
        raise UserError(f"checkpoint {folder}: cannot be merged into its base ({first_line(error)})") from None
    for first, second, name in shared:
        one, other = first.get_parameter(name), second.get_parameter(name)
        if torch.equal(one, other):
            second._parameters[name] = one
    output = merged.get_output_embeddings()
    is_tied = output is not None and output.weight is merged.get_input_embeddings().weight
    for config, tie in zip(configs, ties, strict=True):
        config.tie_word_embeddings = tie and is_tied
    return merged


def _untie(base: nn.Module) -> list[Shared]:
    """Gives modules that share a parameter one each, so that what is merged into one of them changes that alone."""
    owners: dict[nn.Parameter, nn.Module] = {}
    shared: list[Shared] = []
    for module in base.modules():
        for name, parameter in module._parameters.items():
            if parameter is None:
                continue
            if parameter in owners:
                module._parameters[name] = nn.Parameter(parameter.detach().clone(), requires_grad=False)
                shared.append((owners[parameter], module, name))
            owners.setdefault(parameter, module)
    return shared


def _tensors(model: nn.Module) -> list[tuple[str, Tensor]]:
    """Parameters and buffers of floating point; shared ones under each of their names."""
    both = (*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False))
    return [(name, tensor) for name, tensor in both if tensor.dtype.is_floating_point]


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.float32 if dtype in NARROW_DTYPES else torch.float64


@torch.no_grad()
def _logits(model: PreTrainedModel | PeftModel, tokenizer: PreTrainedTokenizerFast) -> list[Tensor]:
    """Of every token of the texts."""
    config = model.config.get_text_config()
    # A tokenizer may have been added to without its model.
    contexts = [[i for i in tokenizer(text).input_ids if i < config.vocab_size] for text in TEXTS]
    length = context_length(config)
    return [model(input_ids=torch.tensor([ids[:length]])).logits for ids in contexts]


def _largest(found: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """Difference; infinite where a number is none."""
    differences = [torch.nan_to_num((a - b).abs().max(), nan=torch.inf) for a, b in zip(found, expected, strict=True)]
    return max(float(difference) for difference in differences)
