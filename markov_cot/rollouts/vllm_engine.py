"""CoTs written by vLLM (https://docs.vllm.ai), to which each step's adapter is handed as a LoRA request.

vLLM has weights of its own, in the same GPU's memory, and kernels that round differently: what it drew from is not
quite the policy that is updated. The log-probs that it reports are the behaviour's, so that the importance weight of
`algorithms.losses` corrects the difference and `rollout/logprob_gap` shows it, as for bfloat16.

Written from vLLM's documentation and tested against a stub of what that says; never run with vLLM itself.

Shapes: P contexts, G samples of each, B = P*G CoTs (context-major), L tokens of each.
"""

from __future__ import annotations

import contextlib
import itertools
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from markov_cot.algorithms.types import Rollouts
from markov_cot.checkpoints.contents import write_adapter
from markov_cot.models.policy import Policy
from markov_cot.utils.errors import UserError

VLLM = "vllm"
RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""Values that all its versions accept for `max_lora_rank`."""
MEMORY_SHARE = 0.3
"""Of the GPU's memory, where the trainer needs the rest."""
SEEDS = 2**31


class VllmEngine:
    """One `vllm.LLM`, made for a policy when it first writes."""

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        """`arguments` are `vllm.LLM`'s, and override what is derived from the policy.

        Raises `UserError` where vLLM is not installed.
        """
        try:
            import vllm
            from vllm.lora.request import LoRARequest
        except ImportError as error:
            raise UserError(
                f"rollout.decoder vllm: cannot be imported ({error}); pip install 'markov-cot[vllm]', or set "
                "rollout.decoder=auto"
            ) from None
        self._vllm, self._lora_request = vllm, LoRARequest
        self._arguments = dict(arguments)
        self._llm: Any = None
        self._versions = itertools.count(1)

    def write(self, policy: Policy, contexts: Sequence[Sequence[int]], uniform_PGL: np.ndarray) -> Rollouts:
        """Return G CoTs of exactly L tokens by the actor for each of P contexts.

        The first random number of each CoT is made its seed. Raises `UserError` for what vLLM refuses, and where what
        comes back is not what was asked for.
        """
        samples, length = uniform_PGL.shape[1:]
        if self._llm is None:
            self._llm = self._started(policy)
        prompts = [{"prompt_token_ids": list(context)} for context in contexts for _ in range(samples)]
        allowed = (~policy.banned_V).nonzero().flatten().tolist()
        wanted = [
            self._vllm.SamplingParams(
                temperature=policy.temperature,
                max_tokens=length,
                min_tokens=length,
                ignore_eos=True,
                allowed_token_ids=allowed,
                logprobs=0,  # the drawn token's alone
                detokenize=False,
                seed=int(uniform * SEEDS),
            )
            for uniform in uniform_PGL[:, :, 0].flatten()
        ]
        # Adapters are kept by their number, so each version of ours gets one of its own.
        version = next(self._versions)
        with tempfile.TemporaryDirectory(prefix="markov_cot_") as folder:
            write_adapter(Path(folder), policy.model)
            request = self._lora_request(f"actor-{version}", version, folder)
            with _refusals("does not write"):
                outputs = self._llm.generate(prompts, wanted, lora_request=request, use_tqdm=False)
        written = [output.outputs[0] for output in outputs]
        cots = [list(each.token_ids) for each in written]
        if len(cots) != len(prompts) or any(len(cot) != length for cot in cots):
            lengths = sorted({len(cot) for cot in cots})
            raise UserError(
                f"rollout.decoder vllm: wrote {len(cots)} CoTs of {lengths} tokens instead of {len(prompts)} of "
                f"{length}; set rollout.decoder=auto"
            )
        logps = [
            [position[token].logprob for token, position in zip(cot, each.logprobs, strict=True)]
            for cot, each in zip(cots, written, strict=True)
        ]
        device = policy.device
        return Rollouts(
            [list(context) for context in contexts],
            torch.tensor(cots, device=device),
            torch.tensor(logps, device=device, dtype=torch.float32),
            samples,
        )

    def _started(self, policy: Policy) -> Any:
        config = policy.model.peft_config["default"]
        rank = max([config.r, *config.rank_pattern.values()])
        derived = {
            "model": policy.model_name,
            "dtype": str(policy.embeddings.weight.dtype).removeprefix("torch."),
            "enable_lora": True,
            "max_loras": 1,
            "max_lora_rank": min((known for known in RANKS if known >= rank), default=rank),
            "max_model_len": policy.max_length,
            "gpu_memory_utilization": MEMORY_SHARE,
            # Of the distribution that is drawn from: tempered, with what a CoT may not hold left out.
            "logprobs_mode": "processed_logprobs",
            # The model's own generation_config would cut the distribution's tail.
            "generation_config": "vllm",
        }
        with _refusals("does not start"):
            return self._vllm.LLM(**derived | self._arguments)


@contextlib.contextmanager
def _refusals(what: str) -> Iterator[None]:
    """In one line, whatever it is that vLLM does not like: the arguments, the memory, the model, the adapter."""
    try:
        yield
    except Exception as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise UserError(f"rollout.decoder vllm: {what} ({reason[0]}); see rollout.engine") from error
