"""Every way of writing tokens that fits a model, against reading whole sequences, as JSON on stdout.

    python benchmarks/decode_paths.py --work FOLDER --device cuda

For each dtype and decoder, actor and critic together: the largest difference (nats) between log-probs of the same
tokens after the same left-padded prompts, and milliseconds a token. `rounding` is how far whole sequences are from
themselves when the embeddings are rounded otherwise, which is what a difference is to be held against. The adapter has
random values.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
from measure import DTYPES, LORA, fail, positive, synchronize
from torch import Tensor

from markov_cot.config.schema import Lora, Model
from markov_cot.models import loading
from markov_cot.models.agreement import rounded_embeddings
from markov_cot.models.logprobs import cot_logp
from markov_cot.models.paths import DECODERS, WHOLE
from markov_cot.models.policy import Policy
from markov_cot.models.roles import WRITERS, Role
from markov_cot.rollouts.decode import REGISTRY, hidden_of, release
from markov_cot.rollouts.path_check import random_adapter
from markov_cot.utils.errors import UserError

CUTS = (0, 3, 11)
"""Tokens by which the three prompts are shorter than the first problem's, so that two of them are padded."""


def load(model: Path, dtype: str, device: str) -> Policy:
    """Actor and critic."""
    settings = Model(name=str(model), dtype=dtype, device=device)
    base = loading.load_base(settings, torch.device(device))
    return Policy(loading.add_adapter(base, Lora(**LORA), 0), loading.load_tokenizer(settings))


@torch.no_grad()
def logps(policy: Policy, decoder: str, role: Role, contexts: list[list[int]], token_BL: Tensor) -> Tensor:
    """Of given tokens [B, L], by one decoder."""
    with policy.acting_as(role):
        return cot_logp(policy, hidden_of(decoder, policy, contexts, token_BL), token_BL, role)


def compare(policy: Policy, prompt: list[int], length: int) -> dict[str, Any]:
    """Differences and times by decoder."""
    contexts = [prompt[: len(prompt) - cut] for cut in CUTS]
    allowed = (~policy.banned_V).nonzero().flatten().cpu()
    drawn = torch.randint(len(allowed), (len(contexts), length), generator=torch.Generator().manual_seed(0))
    token_BL = allowed[drawn].to(policy.device)
    right = {role: logps(policy, WHOLE, role, contexts, token_BL) for role in WRITERS}
    with rounded_embeddings(policy.embeddings):
        rounding = max(_largest(logps(policy, WHOLE, role, contexts, token_BL), right[role]) for role in WRITERS)
    rows = {}
    for name in DECODERS:
        if not policy.paths.allow(name) or not REGISTRY.resolve(name).fits(policy, len(prompt) + length):
            continue
        logps(policy, name, WRITERS[0], contexts, token_BL)  # what is made once is not timed
        synchronize(policy.device)
        started = time.perf_counter()
        found = {role: logps(policy, name, role, contexts, token_BL) for role in WRITERS}
        synchronize(policy.device)
        seconds = (time.perf_counter() - started) / len(WRITERS)
        rows[name] = {
            "largest_difference": max(_largest(found[role], right[role]) for role in WRITERS),
            "ms_a_token": round(1000 * seconds / length, 3),
        }
        release(policy)
    return {"rounding": rounding, "decoders": rows, "ruled_out": sorted(policy.paths.ruled_out)}


def _largest(found_BL: Tensor, right_BL: Tensor) -> float:
    return torch.nan_to_num((found_BL - right_BL).abs().max(), nan=torch.inf).item()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder that workload.py wrote")
    parser.add_argument("--dtype", choices=list(DTYPES), action="append", help="may be given again; both without it")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--length", type=positive, default=32, help="tokens that are written")
    args = parser.parse_args()
    first = json.loads((args.work / "problems.jsonl").read_text(encoding="utf-8").splitlines()[0])
    try:
        found = {}
        for dtype in args.dtype or DTYPES:
            policy = load(args.work / "model", dtype, args.device)
            with random_adapter(policy):
                found[dtype] = compare(policy, first["prompt_ids"], args.length)
    except UserError as error:
        fail(str(error))
    print(json.dumps({"length": args.length, "dtypes": found}))


if __name__ == "__main__":
    main()
