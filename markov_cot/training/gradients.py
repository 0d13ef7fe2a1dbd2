"""What every way of training does with a loss: its gradient in parts that fit into memory, and AdamW's step.

Shapes: B sequences, T positions, V vocabulary, d hidden size.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from markov_cot.config.schema import Optim
from markov_cot.distributed.process_group import Processes
from markov_cot.models.logprobs import LOGITS_BYTES, slices_within
from markov_cot.models.policy import Policy
from markov_cot.utils.profiling import profile_span


def adamw(parameters: Sequence[torch.nn.Parameter], settings: Optim) -> torch.optim.AdamW:
    """Return the optimizer of an adapter's parameters."""
    return torch.optim.AdamW(parameters, lr=settings.lr, weight_decay=settings.weight_decay)


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Have the next step taken at this learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = lr


def few_logits(policy: Policy, *hidden: Tensor) -> Iterator[slice]:
    """Yield slices of sequences whose logits, made from these hidden states [B, T, d], may exist at once."""
    of_one = sum(each.shape[1] for each in hidden) * policy.vocabulary * 4
    return slices_within([of_one] * len(hidden[0]), LOGITS_BYTES)


def leaves_of(roots: Sequence[Tensor]) -> list[Tensor]:
    """Return hidden states to differentiate a loss by, a few sequences at a time, before the model itself."""
    return [root.detach().requires_grad_() for root in roots]


def backward_from(roots: Sequence[Tensor], leaves: Sequence[Tensor]) -> None:
    """Carry the gradient that the leaves have gathered on into the parameters, all sequences at once.

    Hidden states have no gradient where the output layer alone is adapted.
    """
    back = [(root, leaf.grad) for root, leaf in zip(roots, leaves, strict=True) if root.requires_grad]
    if back:
        with profile_span("backward"):
            torch.autograd.backward([root for root, _ in back], [gradient for _, gradient in back])


def apply_gradient(
    optimizer: torch.optim.Optimizer,
    parameters: Sequence[torch.nn.Parameter],
    longest: float,
    processes: Processes,
) -> tuple[float, bool]:
    """Sum the gradient over the processes, scale it down to `longest`, and take the step it gives.

    Returns its 2-norm before, and whether it was finite; otherwise no step is taken.
    """
    processes.sum_gradients(parameters)
    with profile_span("optimizer"):
        norm = torch.nn.utils.clip_grad_norm_(parameters, longest)
        finite = processes.agree(bool(torch.isfinite(norm)))
        if finite:
            optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return norm.item(), finite
