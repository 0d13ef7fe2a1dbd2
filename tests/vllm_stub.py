"""A stand-in for vLLM: the part of its documented interface that markov_cot.rollouts.vllm_engine uses, on the CPU.

It knows of the adapter what is in the folder that it is handed, and, as vLLM does, reads each adapter number once.
"""

from __future__ import annotations

import contextlib
import sys
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, ClassVar

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM


@dataclass(kw_only=True)
class SamplingParams:
    """Those that are used, with vLLM's defaults."""

    temperature: float = 1.0
    max_tokens: int = 16
    min_tokens: int = 0
    ignore_eos: bool = False
    allowed_token_ids: list[int] | None = None
    logprobs: int | None = None
    detokenize: bool = True
    seed: int | None = None


@dataclass
class LoRARequest:
    """An adapter in a folder."""

    lora_name: str
    lora_int_id: int
    lora_path: str


@dataclass
class Logprob:
    """Of one token."""

    logprob: float


@dataclass
class CompletionOutput:
    """One continuation."""

    token_ids: tuple[int, ...]
    logprobs: list[dict[int, Logprob]]


@dataclass
class RequestOutput:
    """What became of one prompt."""

    outputs: list[CompletionOutput]


@dataclass
class Flaws:
    """What is wrong with it."""

    ignores_adapter: bool = False
    keeps_first_adapter: bool = False
    stops_early: bool = False
    sharpness: float = 1.0
    """Its logits are this times the model's, to stand for kernels that round differently."""


@dataclass
class LLM:
    """`vllm.LLM`: the base, and adapters by their number."""

    model: str
    arguments: dict[str, Any] = field(default_factory=dict)
    made: ClassVar[list[LLM]] = []
    flaws: ClassVar[Flaws] = Flaws()

    def __init__(self, model: str, **arguments: Any) -> None:
        if arguments.get("gpu_memory_utilization", 0) > 1:
            raise ValueError("gpu_memory_utilization must be at most 1\nand so on")
        self.model, self.arguments = model, arguments
        self.adapters: dict[int, Any] = {}
        self.asked: list[tuple[list[Any], list[SamplingParams]]] = []
        LLM.made.append(self)

    def generate(
        self, prompts: list[Any], sampling_params: list[SamplingParams], *, lora_request: Any, use_tqdm: bool
    ) -> list[RequestOutput]:
        """One output for each prompt, in their order."""
        assert not use_tqdm and self.arguments["enable_lora"]
        self.asked.append((prompts, sampling_params))
        number = 1 if self.flaws.keeps_first_adapter else lora_request.lora_int_id
        if number not in self.adapters:
            base = AutoModelForCausalLM.from_pretrained(self.model, dtype=self.arguments["dtype"])
            adapted = PeftModel.from_pretrained(base, lora_request.lora_path).eval()
            assert adapted.peft_config["default"].r <= self.arguments["max_lora_rank"]
            self.adapters = {number: adapted}  # max_loras is 1
        model = self.adapters[number]
        without = model.disable_adapter() if self.flaws.ignores_adapter else contextlib.nullcontext()
        with torch.no_grad(), without:
            pairs = zip(prompts, sampling_params, strict=True)
            return [RequestOutput([self._continued(model, p["prompt_token_ids"], wanted)]) for p, wanted in pairs]

    def _continued(self, model: Any, ids: list[int], wanted: SamplingParams) -> CompletionOutput:
        assert self.arguments["logprobs_mode"] == "processed_logprobs" and wanted.logprobs == 0
        assert wanted.ignore_eos and wanted.min_tokens == wanted.max_tokens and wanted.seed is not None
        generator = torch.Generator().manual_seed(wanted.seed)
        tokens: list[int] = []
        logprobs = []
        for _ in range(wanted.max_tokens - self.flaws.stops_early):
            logits = self.flaws.sharpness * model(torch.tensor([[*ids, *tokens]])).logits[0, -1].float()
            allowed = torch.full_like(logits, -torch.inf)
            allowed[wanted.allowed_token_ids] = 0.0
            logp = (logits / wanted.temperature + allowed).log_softmax(-1)
            tokens.append(int(torch.multinomial(logp.exp(), 1, generator=generator)))
            logprobs.append({tokens[-1]: Logprob(logp[tokens[-1]].item())})
        return CompletionOutput(tuple(tokens), logprobs)


def install(patch: pytest.MonkeyPatch, **flaws: Any) -> type[LLM]:
    """Makes it what `import vllm` finds. Returns its `LLM`, which lists those that were `made`."""
    vllm, lora, request = ModuleType("vllm"), ModuleType("vllm.lora"), ModuleType("vllm.lora.request")
    vllm.LLM, vllm.SamplingParams, request.LoRARequest = LLM, SamplingParams, LoRARequest  # type: ignore[attr-defined]
    for module in (vllm, lora, request):
        patch.setitem(sys.modules, module.__name__, module)
    patch.setattr(LLM, "made", [])
    patch.setattr(LLM, "flaws", Flaws(**flaws))
    return LLM
