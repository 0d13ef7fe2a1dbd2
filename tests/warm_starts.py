"""Adapters on nano to start from, as PEFT writes them."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

from markov_cot.models.source import resolve_source

NANO = "nano"
IDS = [1, 40, 41, 42, 50, 60, 61]
SHAPES: dict[str, dict[str, Any]] = {
    "plain": {"r": 4, "lora_alpha": 12, "target_modules": ["q_proj", "v_proj", "down_proj"]},
    "rank-stabilised, with patterns": {
        "r": 4,
        "lora_alpha": 8,
        "use_rslora": True,
        "rank_pattern": {"q_proj": 2, "gate_proj": 6},
        "alpha_pattern": {"v_proj": 3},
        "target_modules": ["q_proj", "k_proj", "v_proj", "gate_proj"],
    },
    "modules of its own": {
        "r": 4,
        "rank_pattern": {"q_proj": 2},
        "target_modules": ["q_proj", "up_proj"],
        "modules_to_save": ["lm_head", "norm"],
    },
    "on the head": {"r": 4, "target_modules": ["o_proj", "lm_head"]},
    "on embeddings and parameters": {
        "r": 4,
        "target_modules": ["embed_tokens"],
        "target_parameters": ["q_proj.weight"],
    },
    "DoRA": {"r": 4, "target_modules": ["q_proj", "up_proj"], "use_dora": True},
    "tokens of its own": {"r": 4, "target_modules": ["q_proj"], "trainable_token_indices": [40, 41, 60]},
}


def nano(dtype: torch.dtype = torch.float32) -> Any:
    """The bundled base as transformers loads it."""
    return AutoModelForCausalLM.from_pretrained(resolve_source(NANO), dtype=dtype)


def write_adapter(
    folder: Path, base: Any = None, scale: float = 0.05, save_embeddings: bool = False, **settings: Any
) -> Path:
    """An adapter with random values, on nano unless another base is given."""
    base = base or nano()
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PEFT's advice
        torch.manual_seed(5)
        model = get_peft_model(base, LoraConfig(task_type="CAUSAL_LM", **settings))
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.data += scale * torch.randn_like(parameter)
        model.save_pretrained(folder, save_embedding_layers=save_embeddings)
    return folder


@torch.no_grad()
def peft_logits(folder: Path, ids: list[int] | None = None, base: Any = None) -> torch.Tensor:
    """What PEFT makes of base and adapter [T, V]."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = PeftModel.from_pretrained(base or nano(), folder).eval()
    logits: torch.Tensor = model(input_ids=torch.tensor([ids or IDS])).logits[0]
    return logits
