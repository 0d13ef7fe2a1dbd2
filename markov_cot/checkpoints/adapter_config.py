"""Which settings of somebody else's adapter_config.json leave the base, read without the adapter, as it was.

Written against PEFT 0.21. A key that is not listed, or a value that its entry does not let pass, is refused: PEFT drops
keys it does not know and acts on the others without a word, and the critic would then be another model.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markov_cot.models.embedding_rows import MERGE
from markov_cot.models.source import ADAPTER_CONFIG
from markov_cot.utils.errors import UserError

LORA = "LORA"
# Ways to start that set the adapter's own values only. EVA's choose ranks besides, which rank_pattern keeps.
_INITIAL = ("gaussian", "orthogonal", "eva")
_CONVERT = (
    "convert it where it was trained, with model.save_pretrained(..., path_initial_model_for_weight_conversion=...), "
    "and give that folder"
)


@dataclass(frozen=True, slots=True)
class _Rule:
    """Values of a key that are read, and what is wrong with the others."""

    harmless: Callable[[Any], bool]
    otherwise: str = ""
    remedy: str = ""


def _anything(_: Any) -> bool:
    return True


def _unset(value: Any) -> bool:
    return value is None or value is False or value in ({}, [])


def _plain_start(value: Any) -> bool:
    return value is None or isinstance(value, bool) or value in _INITIAL


_ROUTED = "is a form of LoRA that is not computed here"
_RULES: dict[str, _Rule] = {
    # Says where the adapter comes from.
    **dict.fromkeys(
        ("peft_version", "auto_mapping", "base_model_name_or_path", "revision", "inference_mode"), _Rule(_anything)
    ),
    "peft_type": _Rule(lambda kind: kind == LORA, "is not LoRA, which alone can be switched off to leave the base"),
    "task_type": _Rule(
        lambda task: task in (None, "CAUSAL_LM"), "is not a language model's (CAUSAL_LM)", "train one that is"
    ),
    # Where the low-rank products are, and by what they are multiplied; all of it is switched off with the adapter.
    **dict.fromkeys(
        (
            *("r", "lora_alpha", "use_rslora", "rank_pattern", "alpha_pattern", "fan_in_fan_out"),
            *("target_modules", "exclude_modules", "layers_to_transform", "layers_pattern", "target_parameters"),
        ),
        _Rule(_anything),
    ),
    # Parts of their own, which are switched off with the adapter as well.
    **dict.fromkeys(
        ("use_dora", "lora_bias", "modules_to_save", "trainable_token_indices", "ensure_weight_tying"), _Rule(_anything)
    ),
    # Of training only. The settings of a way to start are read by that way alone, and those are refused below.
    **dict.fromkeys(("lora_dropout", "runtime_config", "megatron_core", "qalora_group_size"), _Rule(_anything)),
    **dict.fromkeys(("loftq_config", "eva_config", "corda_config", "lora_ga_config"), _Rule(_anything)),
    "init_lora_weights": _Rule(
        _plain_start,
        "starts by changing the base's weights (or is not known not to), so the base would not be the critic",
        _CONVERT,
    ),
    "bias": _Rule(lambda bias: bias == "none", "trained the base's own biases, which cannot be switched off", MERGE),
    "layer_replication": _Rule(_unset, "makes a deeper model of the base, which is no longer the critic", MERGE),
    "alora_invocation_tokens": _Rule(
        _unset, "acts only after its invocation tokens, which no prompt here has", "use an adapter that always acts"
    ),
    **dict.fromkeys(
        (
            *("use_qalora", "use_bdlora", "arrow_config", "kasa_config"),
            *("monteclora_config", "velora_config", "megatron_config"),
        ),
        _Rule(_unset, _ROUTED, MERGE),
    ),
    # Of PEFT's first releases.
    "enable_lora": _Rule(_unset, _ROUTED, MERGE),
    "merge_weights": _Rule(_anything),
}


def read_adapter_config(folder: Path) -> Mapping[str, Any]:
    """What an adapter's folder says of it. Raises `UserError` for everything that is not known to be harmless."""
    values = _read(folder)
    if values["peft_type"] != LORA:
        raise _refusal(folder, "peft_type", values["peft_type"], _RULES["peft_type"])
    for key, value in values.items():
        rule = _RULES.get(key)
        if rule is None and value is not None:
            raise UserError(
                f"checkpoint {folder}: {ADAPTER_CONFIG} has {key}={_short(value)}, which is not known here (PEFT "
                f"{values.get('peft_version') or 'of another version'} wrote it), so the adapter might be read as "
                f"something else; {MERGE}"
            )
        if rule and not rule.harmless(value):
            raise _refusal(folder, key, value, rule)
    return values


def _read(folder: Path) -> dict[str, Any]:
    try:
        values = json.loads((folder / ADAPTER_CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        values = None
    if not isinstance(values, dict) or "peft_type" not in values:
        raise UserError(f"checkpoint {folder}: {ADAPTER_CONFIG} is damaged; use another checkpoint")
    return values


def _refusal(folder: Path, key: str, value: Any, rule: _Rule) -> UserError:
    return UserError(
        f"checkpoint {folder}: its adapter ({key}={_short(value)}) {rule.otherwise}; {rule.remedy or MERGE}"
    )


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
