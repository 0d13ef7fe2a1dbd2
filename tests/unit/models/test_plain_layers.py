"""Layers by hand: each formula against a number worked out by hand and against autograd, and whole models."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor
from torch.nn import functional as F
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from markov_cot.models import attention, plain_layers
from markov_cot.models.attention import Masks, attend, attend_gradients
from markov_cot.models.logprobs import cot_hidden
from markov_cot.models.paths import BY_HAND
from markov_cot.models.plain_layers import RmsNorm, Rotation
from markov_cot.models.policy import Policy
from tests.families import CONTEXTS, FAMILIES, norm_in_float64

WIDE = torch.float64


def random(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=WIDE)


def states_and_gradients(policy: Policy, prompts: list[list[int]]) -> list[Tensor]:
    """Of two CoTs for each prompt, by the actor."""
    contexts = [context for context in prompts for _ in range(2)]
    cot_BL = torch.arange(len(contexts) * 5).view(len(contexts), 5) + 7
    with policy.folded():
        hidden_BLd = cot_hidden(policy, contexts, cot_BL, "actor")
        weights = torch.randn(hidden_BLd.shape, generator=torch.Generator().manual_seed(0))
        return [hidden_BLd, *torch.autograd.grad((hidden_BLd * weights).sum(), list(policy.trainable().values()))]


def test_a_norm_by_hand() -> None:
    # rms(3, 4) = sqrt(12.5) = 3.535534; 3 * 2 / rms = 1.697056, 4 * 1 / rms = 1.131371.
    norm = RmsNorm(torch.tensor([2.0, 1.0]), 0.0)
    x = torch.tensor([[3.0, 4.0]])
    torch.testing.assert_close(norm(x), torch.tensor([[1.697056, 1.131371]]))
    # With r = 0.2828427 and h = (2, 0): mean(h x) = 3, so r (2 - 3 r^2 3) = 0.362039, r (0 - 4 r^2 3) = -0.271529.
    torch.testing.assert_close(norm.gradient(x, torch.tensor([[1.0, 0.0]])), torch.tensor([[0.362039, -0.271529]]))


def test_a_norms_gradient_is_autograds() -> None:
    norm, x, gradient = RmsNorm(random(6), 1e-5), random(4, 6).requires_grad_(), random(4, 6)
    (expected,) = torch.autograd.grad(norm(x), x, gradient)
    torch.testing.assert_close(norm.gradient(x.detach(), gradient), expected)


def test_a_rotation_by_hand_and_back() -> None:
    # A quarter turn takes (1, 0) to (0, 1); the gradient turns back.
    quarter = Rotation(torch.zeros(1, 1, 1, 2), torch.tensor([-1.0, 1.0]).view(1, 1, 1, 2))
    x = torch.tensor([1.0, 0.0]).view(1, 1, 1, 2)
    assert quarter(x).flatten().tolist() == [0, 1]
    assert quarter.gradient(quarter(x)).flatten().tolist() == [1, 0]


def test_attention_by_hand() -> None:
    # One prompt token (key 0, value 1) and two own ones (keys 0 and ln 3, values 3 and 5), queries 1.
    query = torch.ones(1, 2, 1, 1, dtype=WIDE)
    keys = torch.tensor([0.0, 0.0, math.log(3)], dtype=WIDE).view(1, 1, 3, 1)
    values = torch.tensor([1.0, 3.0, 5.0], dtype=WIDE).view(1, 1, 3, 1)
    seen = attend(query, keys, values, Masks.of(torch.ones(1, 3), 2, WIDE), 1.0)
    # The first sees (1, 3) alike: 2. The second weights 1 : 1 : 3: (1 + 3 + 15) / 5 = 3.8.
    torch.testing.assert_close(seen.flatten(), torch.tensor([2.0, 3.8], dtype=WIDE))
    hidden = attend(query, keys, values, Masks.of(torch.tensor([[0, 1, 1]]), 2, WIDE), 1.0)
    # Without the prompt's token: 3, and (3 + 15) / 4 = 4.5.
    torch.testing.assert_close(hidden.flatten(), torch.tensor([3.0, 4.5], dtype=WIDE))


@pytest.mark.parametrize("scores_bytes", [1, 1 << 20], ids=["one sequence at a time", "all at once"])
def test_attention_is_torchs_with_its_gradients(scores_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "SCORES_BYTES", scores_bytes)
    query, keys, values = (
        each.requires_grad_() for each in (random(2, 3, 4, 6), random(2, 2, 5, 6), random(2, 2, 5, 6))
    )
    seen_BS = torch.tensor([[0, 1, 1, 1, 1], [1, 1, 1, 1, 1]])
    allowed = seen_BS[:, None, None].bool() & torch.ones(3, 5, dtype=torch.bool).tril(2)
    expected = F.scaled_dot_product_attention(
        query.transpose(1, 2),
        keys.repeat_interleave(2, 1),
        values.repeat_interleave(2, 1),
        attn_mask=allowed,
        scale=0.3,
    ).transpose(1, 2)
    gradient = random(2, 3, 4, 6)
    wanted = torch.autograd.grad(expected, (query, keys, values), gradient)
    with torch.no_grad():
        masks = Masks.of(seen_BS, 3, WIDE)
        found = attend(query, keys, values, masks, 0.3)
        gradients = attend_gradients(gradient, found, query, keys, values, masks, 0.3)
    torch.testing.assert_close(found, expected.detach())
    for ours, theirs in zip(gradients, wanted, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3", "mistral"])
@pytest.mark.parametrize("prompts", [2, 1], ids=["two prompts", "one prompt"])
def test_states_and_gradients_are_those_of_the_modules(
    family: str, prompts: int, sizes: dict[str, Any], make_policy: Callable[..., Policy]
) -> None:
    policy = make_policy(FAMILIES[family](sizes))
    assert policy.plain_layers and policy.paths.allow(BY_HAND)
    found = states_and_gradients(policy, CONTEXTS[:prompts])
    policy.paths.ruled_out.add(BY_HAND)
    for ours, theirs in zip(found, states_and_gradients(policy, CONTEXTS[:prompts]), strict=True):
        assert (ours - theirs).norm() <= 1e-5 * theirs.norm()


def test_in_float64_states_and_gradients_are_exact(
    make_policy: Callable[..., Policy], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plain_layers, "DTYPES", (WIDE,))
    monkeypatch.setattr(LlamaRMSNorm, "forward", norm_in_float64)
    policy = make_policy(dtype=WIDE)
    assert policy.plain_layers and policy.paths.allow(BY_HAND)
    found = states_and_gradients(policy, CONTEXTS)
    policy.paths.ruled_out.add(BY_HAND)
    for ours, theirs in zip(found, states_and_gradients(policy, CONTEXTS), strict=True):
        assert (ours - theirs).norm() <= 1e-12 * theirs.norm()


def test_layers_keep_their_weights_when_they_are_joined(make_policy: Callable[..., Policy]) -> None:
    policy = make_policy()
    assert policy.plain_layers
    attention_of_first = policy.decoder.layers[0].self_attn
    joined = policy.plain_layers.layers[0].query_key_value.in_use().weight
    parts = [getattr(attention_of_first, name).base_layer.weight for name in ("q_proj", "k_proj", "v_proj")]
    assert torch.equal(torch.cat(parts), joined)
    assert parts[0].data_ptr() == joined.data_ptr(), "there is no copy"


def test_another_form_is_left_to_the_modules(make_policy: Callable[..., Policy], sizes: dict[str, Any]) -> None:
    assert make_policy(transformers.LlamaConfig(**sizes, hidden_act="gelu")).plain_layers is None
    assert make_policy(dtype=WIDE).plain_layers is None
