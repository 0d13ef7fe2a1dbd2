"""Every family of models against a float64 reference: log-probs, gradients, and which paths are taken.

The reference is transformers' own forward of one whole sequence at a time, in float64, with PEFT's own LoRA layers.
Models are tiny and random. Prints the table of benchmarks/README.md:

    python benchmarks/families.py [NAME...]
"""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import transformers
from peft import get_peft_model
from torch import Tensor, nn

from markov_cot.config.schema import Lora, Model
from markov_cot.models.loading import _prepare, add_adapter, base_from_config, load_tokenizer
from markov_cot.models.logprobs import cot_hidden
from markov_cot.models.paths import CHECKPOINTED, DECODERS, WAYS
from markov_cot.models.policy import Policy
from markov_cot.rollouts.path_check import Trial, check_paths
from markov_cot.rollouts.sampling import sample_cots, uniforms

CONTEXTS = [[1, 40, 41, 42, 43, 44, 45, 46, 47, 48, 49, 50], [1, 60, 61], [1, 70, 71, 72, 73, 74, 75]]
LENGTH = 10
SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
}
IDS: dict[str, Any] = {"vocab_size": 512, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
STRADDLED = 16
"""Between the lengths of the shortest and the longest sequence, and within that of one of them."""


def _config(name: str, **values: Any) -> Any:
    return getattr(transformers, f"{name}Config")(**(IDS | values))


def _rope(kind: str, **values: Any) -> dict[str, Any]:
    return {"rope_type": kind, "rope_theta": 10000.0, **values}


def _mamba(**values: Any) -> dict[str, Any]:
    return {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_heads": 8,
        "head_dim": 8,
        "state_size": 8,
        "n_groups": 2,
        "chunk_size": 8,
        **values,
    }


def _hybrid(**values: Any) -> dict[str, Any]:
    return SIZES | {
        "mamba_n_heads": 8,
        "mamba_d_head": 8,
        "mamba_d_state": 8,
        "mamba_n_groups": 2,
        "mamba_chunk_size": 8,
        **values,
    }


LONGROPE = _rope(
    "longrope",
    short_factor=[1.0, 1.1, 1.2, 1.3],
    long_factor=[2.0, 3.0, 4.0, 5.0],
    original_max_position_embeddings=STRADDLED,
)
MLA: dict[str, Any] = {
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8,
    "v_head_dim": 12,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "n_group": 2,
    "topk_group": 1,
    "moe_intermediate_size": 16,
    "first_k_dense_replace": 1,
    "num_key_value_heads": 4,
}
WINDOW: dict[str, Any] = {"sliding_window": 6}
MOST_USED: dict[str, Callable[[], Any]] = {
    "Llama": lambda: _config("Llama", **SIZES),
    "Mistral, window": lambda: _config("Mistral", **SIZES, **WINDOW),
    "Qwen 2": lambda: _config("Qwen2", **SIZES),
    "Qwen 3": lambda: _config("Qwen3", **SIZES, head_dim=8),
    "Gemma 2": lambda: _config("Gemma2", **SIZES, **WINDOW, head_dim=8),
    "Gemma 3": lambda: _config("Gemma3Text", **SIZES, **WINDOW, head_dim=8),
    "Phi-3": lambda: _config("Phi3", **SIZES),
    "GPT-2": lambda: _config("GPT2", n_embd=32, n_layer=2, n_head=4, n_positions=256),
    "GPT-NeoX": lambda: _config("GPTNeoX", **SIZES),
    "OPT": lambda: _config("OPT", **SIZES, ffn_dim=48, word_embed_proj_dim=32),
}
OTHERS: dict[str, Callable[[], Any]] = {
    "MiniMax": lambda: _config(
        "MiniMax",
        **SIZES,
        head_dim=8,
        num_local_experts=2,
        layer_types=["linear_attention", "full_attention"],
        block_size=8,
    ),
    "Zamba 2": lambda: _config(
        "Zamba2",
        **SIZES | {"num_hidden_layers": 3, "num_key_value_heads": 4},
        mamba_d_state=8,
        mamba_expand=2,
        n_mamba_heads=8,
        mamba_ngroups=2,
        chunk_size=8,
        num_mem_blocks=1,
        adapter_rank=4,
        layers_block_type=["mamba", "hybrid", "mamba"],
        use_mem_rope=True,
    ),
    "Nemotron-H": lambda: _config(
        "NemotronH",
        **SIZES | {"num_hidden_layers": 4},
        layers_block_type=["mamba", "attention", "mamba", "moe"],
        head_dim=8,
        ssm_state_size=8,
        mamba_num_heads=8,
        mamba_head_dim=8,
        n_groups=2,
        chunk_size=8,
        n_routed_experts=2,
        num_experts_per_tok=1,
        moe_intermediate_size=16,
        moe_shared_expert_intermediate_size=16,
    ),
    "Mamba 2": lambda: _config("Mamba2", **_mamba()),
    "Mamba": lambda: _config("Mamba", hidden_size=32, num_hidden_layers=2, state_size=8),
    "Bamba": lambda: _config("Bamba", **_hybrid(attn_layer_indices=[1])),
    "LFM 2": lambda: _config("Lfm2", **SIZES, layer_types=["conv", "full_attention"]),
    "RWKV": lambda: _config("Rwkv", hidden_size=32, num_hidden_layers=2, attention_hidden_size=32, context_length=256),
    "Llama, dynamic NTK": lambda: _config(
        "Llama", **SIZES | {"max_position_embeddings": STRADDLED}, rope_parameters=_rope("dynamic", factor=4.0)
    ),
    "Phi-3, longrope": lambda: _config(
        "Phi3", **SIZES, original_max_position_embeddings=STRADDLED, rope_parameters=LONGROPE
    ),
    "DeepSeek-V3 (MLA)": lambda: _config("DeepseekV3", **SIZES | MLA),
    "GPT-Neo": lambda: _config(
        "GPTNeo",
        hidden_size=32,
        intermediate_size=48,
        num_layers=2,
        num_heads=4,
        attention_types=[[["global", "local"], 1]],
        window_size=6,
        max_position_embeddings=256,
    ),
    "Falcon": lambda: _config("Falcon", hidden_size=32, num_hidden_layers=2, num_attention_heads=4),
    "Falcon, ALiBi": lambda: _config(
        "Falcon", hidden_size=32, num_hidden_layers=2, num_attention_heads=4, alibi=True, parallel_attn=False
    ),
    "BLOOM": lambda: _config("Bloom", hidden_size=32, n_layer=2, n_head=4),
    "MPT": lambda: _config("Mpt", d_model=32, n_heads=4, n_layers=2, max_seq_len=256),
    "Llama 4": lambda: _config(
        "Llama4Text",
        **SIZES,
        head_dim=8,
        intermediate_size_mlp=48,
        num_local_experts=2,
        num_experts_per_tok=1,
        interleave_moe_layer_step=1,
        attention_chunk_size=16,
    ),
    "PhiMoE": lambda: _config("Phimoe", **SIZES, num_local_experts=2, num_experts_per_tok=1),
    "Mixtral": lambda: _config("Mixtral", **SIZES, num_local_experts=2, num_experts_per_tok=1),
    "Cohere": lambda: _config("Cohere", **SIZES),
    "Granite": lambda: _config("Granite", **SIZES),
}
FAMILIES = MOST_USED | OTHERS


@dataclass(frozen=True, slots=True)
class Compared:
    """How far a family is from its reference, nats, and how it was computed."""

    sampled: float
    """Largest difference of a behaviour log-prob."""
    scored: float
    gradient: float
    critic: float
    paths: tuple[str, ...]
    lines: list[str]
    """What the log says."""


def build(
    config: Any, *, dtype: torch.dtype = torch.float32, change: Callable[[nn.Module], None] = lambda _: None
) -> Any:
    """A base with random weights that are large enough for tokens to differ."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        base = base_from_config(copy.deepcopy(config), dtype)
    generator = torch.Generator().manual_seed(0)
    for parameter in base.parameters():
        parameter += (0.1 * torch.randn(parameter.shape, generator=generator)).to(parameter)
    change(base)
    return base


class Reference:
    """A base and its adapter in float64, through PEFT's and transformers' own modules."""

    def __init__(self, base: nn.Module, policy: Policy) -> None:
        """`base` before an adapter was put on it."""
        plain = copy.deepcopy(policy.model.peft_config["default"])
        plain._custom_modules = None
        self.base = copy.deepcopy(base).double().eval()
        self.base.config._experts_implementation = "eager"  # the grouped products of experts know no float64
        self.model = get_peft_model(copy.deepcopy(self.base), plain).double().eval()
        own = dict(self.model.named_parameters())
        for name, parameter in policy.trainable().items():
            own[name].data = parameter.detach().double()
        self.parameters = [own[name] for name in policy.trainable()]
        self._policy = policy

    def logp(self, model: Any, context: list[int], cot: Tensor) -> Tensor:
        """Log-prob [L] of each CoT token after its context."""
        ids = torch.tensor([[*context, *cot.tolist()]])
        logits_LV = model(input_ids=ids, use_cache=False).logits[0, len(context) - 1 : -1]
        logits_LV = logits_LV.double() / self._policy.temperature
        banned = logits_LV.masked_fill(self._policy.banned_V, torch.finfo(torch.float64).min)
        return banned.log_softmax(-1).gather(1, cot[:, None]).squeeze(1)


def compare(policy: Policy, base: nn.Module, contexts: list[list[int]] = CONTEXTS, length: int = LENGTH) -> Compared:
    """Samples, scores and differentiates with the policy, checked as a run checks it, and with the reference."""
    for name, parameter in policy.trainable().items():
        if "lora_B" in name:
            generator = torch.Generator().manual_seed(len(name))
            parameter.data = (0.05 * torch.randn(parameter.shape, generator=generator)).to(parameter)
    ends = sorted(contexts, key=len)
    most = len(ends[-1]) + length
    with _log() as lines:
        check_paths(policy, Trial([ends[0], ends[0], ends[-1]], length, len(ends[0]), most, trains=True))
        rollouts = sample_cots(policy, contexts, uniforms(0, 0, 2 * len(contexts), length))
    repeated, cot_BL = rollouts.contexts, rollouts.cot_BL
    repeated = [context for context in repeated for _ in range(rollouts.samples)]
    reference = Reference(base, policy)
    expected = [reference.logp(reference.model, c, cot) for c, cot in zip(repeated, cot_BL, strict=True)]
    with torch.no_grad():
        critic = torch.stack([reference.logp(reference.base, c, cot) for c, cot in zip(repeated, cot_BL, strict=True)])
        found_critic = _logp(policy, repeated, cot_BL, "critic")
    wanted = torch.autograd.grad(torch.stack(expected).mean(), reference.parameters, allow_unused=True)
    with policy.folded():
        scored_BL = _logp(policy, repeated, cot_BL, "actor")
        gradients = torch.autograd.grad(scored_BL.mean(), list(policy.trainable().values()), allow_unused=True)
    expected_BL = torch.stack(expected).detach()
    pairs = [(a, b) for a, b in zip(gradients, wanted, strict=True) if b is not None]
    return Compared(
        sampled=_largest(rollouts.behaviour_logp_BL, expected_BL),
        scored=_largest(scored_BL.detach(), expected_BL),
        gradient=max(_largest(torch.zeros_like(b) if a is None else a, b) for a, b in pairs),
        critic=_largest(found_critic, critic),
        paths=taken(policy),
        lines=lines,
    )


def taken(policy: Policy) -> tuple[str, ...]:
    """The decoder in use, and those ways of reading sequences that are not."""
    decoder = next(name for name in DECODERS if name in policy.paths.tried and policy.paths.allow(name))
    return (decoder, *(f"not {way}" for way in WAYS if not policy.paths.allow(way) and way != CHECKPOINTED))


def _logp(policy: Policy, contexts: list[list[int]], cot_BL: Tensor, role: str) -> Tensor:
    hidden_BLd = cot_hidden(policy, contexts, cot_BL, role)
    with policy.acting_as(role):
        return policy.cot_logp(hidden_BLd).gather(-1, cot_BL[..., None]).squeeze(-1)


def _largest(a: Tensor, b: Tensor) -> float:
    return torch.nan_to_num((a.double() - b.double()).abs().max(), nan=torch.inf).item()


@contextlib.contextmanager
def _log() -> Iterator[list[str]]:
    lines: list[str] = []
    handler = logging.StreamHandler(io.StringIO())
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("markov_cot").addHandler(handler)
    try:
        yield lines
    finally:
        logging.getLogger("markov_cot").removeHandler(handler)


def policy_of(base: nn.Module, tokenizer: Any, *, lora: Lora | None = None, checkpointing: bool = False) -> Policy:
    """A policy over a copy of the base."""
    prepared = _prepare(copy.deepcopy(base), gradient_checkpointing=checkpointing)
    return Policy(add_adapter(prepared, lora or Lora(), seed=0), tokenizer, 0.7)


def main(names: list[str]) -> None:
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)
    tokenizer = load_tokenizer(Model())
    print(
        "| family | sampled | scored | critic | gradient | decoder, and what is not used |\n|---|---|---|---|---|---|"
    )
    for name, config in FAMILIES.items():
        if names and name not in names:
            continue
        base = build(config())
        row = compare(policy_of(base, tokenizer), base)
        numbers = " | ".join(f"{x:.0e}" for x in (row.sampled, row.scored, row.critic, row.gradient))
        print(f"| {name} | {numbers} | {', '.join(row.paths)} |", flush=True)
        if names:
            print(*row.lines, sep="\n")


if __name__ == "__main__":
    main(sys.argv[1:])
