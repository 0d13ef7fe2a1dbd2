"""What only a CUDA device shows. Skipped without one; benchmarks/bench_gpu.py runs it where there is one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from markov_cot.models.agreement import usual_ids
from markov_cot.models.batching import pad_left
from markov_cot.models.linear import wide_product
from markov_cot.models.paths import DECODERS, STATIC, WHOLE
from markov_cot.rollouts.decode import REGISTRY, _is_right, decoder_in_use, release
from tests import small_runs
from tests.small_runs import config_of, outcome, warm

pytestmark = pytest.mark.gpu
CUDA = "cuda"
PLACES = 24


@pytest.fixture(autouse=True)
def _warm() -> Iterator[None]:
    with warm():
        yield


def rows(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "runs" / "r" / "log.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("width", [64, 65, 192])
def test_gradients_are_numbers_whatever_prompts_are_padded_to(make_policy: Any, width: int) -> None:
    policy = make_policy(device=CUDA, dtype=torch.bfloat16)
    contexts = [usual_ids(policy.vocabulary, range(n)) for n in (width, 5)]
    with policy.acting_as("actor"):
        policy.hidden(pad_left(contexts, policy.pad_id, policy.device))[:, -1].float().square().sum().backward()
    gradients = [parameter.grad for parameter in policy.trainable().values()]
    assert any(gradient.any() for gradient in gradients) and all(gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("decoder", [name for name in DECODERS if name != WHOLE])
def test_a_decoder_computes_what_whole_sequences_give(make_policy: Any, dtype: torch.dtype, decoder: str) -> None:
    policy = make_policy(device=CUDA, dtype=dtype)
    if not REGISTRY.resolve(decoder).fits(policy, PLACES):
        pytest.skip("is not made for such a model")
    with torch.no_grad(), policy.acting_as("actor"):
        assert _is_right(policy, decoder)
    release(policy)


def test_cuda_graphs_are_what_a_plain_model_is_decoded_with(make_policy: Any) -> None:
    policy = make_policy(device=CUDA, dtype=torch.bfloat16)
    with torch.no_grad(), policy.acting_as("actor"):
        assert decoder_in_use(policy, PLACES) == STATIC
    assert policy.paths.captures
    release(policy)


def test_a_run_computes_what_one_on_the_cpu_does(tmp_path: Path) -> None:
    for device in ("cpu", "cuda"):
        small_runs.run(config_of(tmp_path / device, steps=3, model={"device": device, "dtype": "float32"}))
    for ours, theirs in zip(rows(tmp_path / "cuda"), rows(tmp_path / "cpu"), strict=True):
        keys = [key for key in theirs if not key.startswith("perf/")]
        assert {key: ours[key] for key in keys} == pytest.approx({k: theirs[k] for k in keys}, rel=1e-2, abs=1e-3)


def test_a_resumed_run_leaves_the_same_bytes(tmp_path: Path) -> None:
    whole, parts = (config_of(tmp_path / name, steps=4, model={"device": "cuda"}) for name in ("whole", "parts"))
    small_runs.run(whole)
    small_runs.run(parts, stop=lambda made: made.state.progress.step == 2)
    small_runs.run(parts, resume=True)
    assert small_runs.differences(tmp_path / "parts", outcome(tmp_path / "whole")) == []


def test_in_bfloat16_the_first_updates_ratio_is_1(tmp_path: Path) -> None:
    once = {"inner_epochs": 1, "minibatches": 1}
    small_runs.run(config_of(tmp_path, "ppo", steps=4, model={"device": "cuda", "dtype": "bfloat16"}, algorithm=once))
    found = [row["ppo/ratio_max"] for row in rows(tmp_path) if "ppo/ratio_max" in row]
    assert found and set(found) == {1.0}


def test_the_output_layer_does_not_round_to_bfloat16() -> None:
    generator = torch.Generator().manual_seed(0)
    x, weight = (torch.randn(n, 64, generator=generator).to(CUDA, torch.bfloat16) for n in (8, 300))
    x.requires_grad_()
    found = wide_product(x, weight)
    right = x.detach().double() @ weight.double().T
    assert found.dtype == torch.float32
    assert (found - right).abs().max() < 1e-4 < (right.to(torch.bfloat16) - right).abs().max()
    found.sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad.double(), weight.double().sum(0).expand(8, -1), rtol=0.02, atol=0.1)


def test_a_base_in_four_bits_is_trained(tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    small_runs.run(config_of(tmp_path, steps=2, model={"device": "cuda", "four_bit": True}))
    assert all(row["optim/grad_norm"] > 0 for row in rows(tmp_path))
