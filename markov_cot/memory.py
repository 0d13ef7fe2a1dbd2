"""How many tokens go through the model at once, found by running out of memory.

When a phase of a step does not fit, it is done again in parts of half the size, and that size is kept from then on.
Random numbers belong to sequences and denominators to steps, so the parts change nothing but rounding.
"""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable
from typing import TypeVar

import torch

from markov_cot.errors import UserError

logger = logging.getLogger(__name__)
T = TypeVar("T")

ROLLOUT, SCORE, UPDATE = "rollout", "score", "update"
SMALLEST = 64
"""Below this many tokens it is not the batch that needs the memory."""
UNLIMITED = 1 << 30
_CPU_MESSAGES = ("can't allocate memory", "not enough memory")


class TokenBudgets:
    """Most tokens at once in each phase: sampling, scoring without gradient, and updates."""

    def __init__(self, tokens: int) -> None:
        """`tokens` limits scoring and updates; sampling keeps only keys and values and starts without a limit."""
        self.tokens = {ROLLOUT: UNLIMITED, SCORE: tokens, UPDATE: tokens}

    def within(self, phase: str, size: int, work: Callable[[int], T]) -> T:
        """`work(tokens)`, done again from its start with half the tokens as often as it runs out of memory.

        `size` is how many tokens there are in all. Raises `UserError` when even the smallest part does not fit.
        """
        while True:
            budget = min(self.tokens[phase], size)
            try:
                return work(self.tokens[phase])
            except (MemoryError, RuntimeError) as error:
                if not ran_out_of_memory(error):
                    raise
            # Outside the handler: its traceback would keep the tensors of the failed attempt alive.
            self._halve(phase, budget)

    def _halve(self, phase: str, budget: int) -> None:
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if budget // 2 < SMALLEST:
            raise UserError(
                f"out of memory in the {phase} phase with {budget} tokens at once; use a shorter rollout.length, "
                "model.gradient_checkpointing=true, or a smaller model"
            )
        self.tokens[phase] = budget // 2
        logger.warning("out of memory in the %s phase: from now on at most %d tokens at once", phase, budget // 2)


def ran_out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed, on a GPU or in main memory, rather than anything else."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(message in str(error) for message in _CPU_MESSAGES)
