from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from markov_cot.algorithms.losses import entropy, full_kl
from markov_cot.models import fused_logprobs as token_scores
from markov_cot.models.fused_logprobs import TokenScores


def by_autograd(logits: Tensor, reference: Tensor, token: Tensor) -> tuple[Tensor, ...]:
    logp = logits.log_softmax(-1)
    return logp.gather(1, token[:, None]).squeeze(1), full_kl(logp, reference), entropy(logp)


@pytest.mark.parametrize("rows", [1, 2, 100])
@pytest.mark.parametrize("weights", [(1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (0.7, -1.3, 0.4)])
def test_values_and_gradients_are_autograds(
    monkeypatch: pytest.MonkeyPatch, rows: int, weights: tuple[float, ...]
) -> None:
    monkeypatch.setattr(token_scores, "CACHED_NUMBERS", rows * 7)
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(5, 7, generator=generator, dtype=torch.float64)
    logits[:, 2] = -1e300  # a banned token; autograd's own gradient is NaN at finfo.min times a weight above 1
    reference = logits.roll(1, 0).log_softmax(-1)
    token, per_token = torch.tensor([0, 1, 3, 6, 4]), torch.arange(1, 6, dtype=torch.float64)
    found = []
    for function in (by_autograd, TokenScores.apply):
        leaf = logits.clone().requires_grad_()
        values = function(leaf * 1, reference, token)
        sum(w * (v * per_token).sum() for w, v in zip(weights, values, strict=True)).backward()  # type: ignore[union-attr]
        found.append([*(v.detach() for v in values), leaf.grad])
    for ours, theirs in zip(found[1], found[0], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)
    assert not found[1][3][:, 2].any()


def test_banned_tokens_make_no_nan() -> None:
    leaf = torch.tensor([[1.0, 0.0, torch.finfo(torch.float32).min]], requires_grad=True)
    logp, kl, h = TokenScores.apply(leaf * 1, leaf.detach().log_softmax(-1).roll(0), torch.tensor([0]))
    (logp + 7 * kl + 9 * h).sum().backward()
    assert leaf.grad is not None and leaf.grad.isfinite().all() and leaf.grad[0, 2] == 0


def test_by_hand() -> None:
    # p = (3/4, 1/4), q = (1/2, 1/2): KL = 3/4 ln 3/2 + 1/4 ln 1/2, H = -3/4 ln 3/4 - 1/4 ln 1/4.
    leaf = torch.tensor([[math.log(3.0), 0.0]], dtype=torch.float64, requires_grad=True)
    reference = torch.tensor([[0.5, 0.5]], dtype=torch.float64).log()
    logp, kl, h = TokenScores.apply(leaf * 1, reference, torch.tensor([0]))
    assert logp.item() == pytest.approx(math.log(0.75))
    assert kl.item() == pytest.approx(0.75 * math.log(1.5) + 0.25 * math.log(0.5))
    assert h.item() == pytest.approx(-0.75 * math.log(0.75) - 0.25 * math.log(0.25))
    kl.backward()
    # p_0 (ln p_0 / q_0 - KL), and its opposite, since p sums to one.
    expected = 0.75 * (math.log(1.5) - kl.item())
    assert leaf.grad is not None and leaf.grad.tolist()[0] == pytest.approx([expected, -expected])


@given(st.lists(st.floats(-50, 50, width=32), min_size=2, max_size=9))
def test_gradients_sum_to_zero_over_the_vocabulary(values: list[float]) -> None:
    leaf = torch.tensor([values], dtype=torch.float64, requires_grad=True)
    reference = torch.zeros(1, len(values), dtype=torch.float64).log_softmax(-1)
    outputs = TokenScores.apply(leaf * 1, reference, torch.tensor([0]))
    sum(outputs).sum().backward()
    assert leaf.grad is not None and abs(leaf.grad.sum().item()) < 1e-9
