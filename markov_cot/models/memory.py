"""How many tokens go through the model at once, found by running out of memory.

When a phase of a step does not fit, it is done again in parts of half the size, and that size is kept from then on.
Random numbers belong to sequences and denominators to steps, so the parts change nothing but rounding.
"""

from __future__ import annotations

import gc
import logging
import resource
import sys
from collections.abc import Callable
from typing import Protocol, TypeVar, runtime_checkable

import torch

from markov_cot.distributed.process_group import ALONE, Processes
from markov_cot.distributed.sharding import Sharding
from markov_cot.utils.errors import UserError

logger = logging.getLogger(__name__)
T = TypeVar("T")

ROLLOUT, SCORE, UPDATE = "rollout", "score", "update"
SMALLEST = 64
"""Below this many tokens it is not the batch that needs the memory."""
UNLIMITED = 1 << 30
_CPU_MESSAGES = ("can't allocate memory", "not enough memory")


@runtime_checkable
class Budgets(Protocol):
    """How many tokens may go through the model at once."""

    def within(self, phase: str, size: int, work: Callable[[int], T]) -> T:
        """Return `work(tokens)`; `size` is how many tokens there are in all."""


class FixedBudget:
    """A number of tokens that is not changed here: for a part of work that is repeated as a whole."""

    def __init__(self, tokens: int) -> None:
        """`tokens` limits scoring; decoding is in the parts that its caller makes."""
        self._tokens = tokens

    def within(self, phase: str, size: int, work: Callable[[int], T]) -> T:
        """Return `work(tokens)`, whatever it raises."""
        return work(UNLIMITED if phase == ROLLOUT else self._tokens)


class TokenBudgets:
    """Most tokens at once in each phase: sampling, scoring without gradient, and updates."""

    def __init__(
        self,
        tokens: int,
        processes: Processes = ALONE,
        sharding: Sharding | None = None,
        release: Callable[[], None] = lambda: None,
        *,
        keeps: bool = False,
    ) -> None:
        """`tokens` limits scoring and updates; sampling keeps only keys and values and starts without a limit.

        `release` frees what a phase keeps for its own later calls; the next phase shall have that memory, or, if
        `keeps`, only one that runs out of it.
        """
        self.tokens = {ROLLOUT: UNLIMITED, SCORE: tokens, UPDATE: tokens}
        self._processes, self._sharding, self._release, self._keeps = processes, sharding, release, keeps

    def within(self, phase: str, size: int, work: Callable[[int], T]) -> T:
        """`work(tokens)`, done again from its start with half the tokens as often as it runs out of memory.

        `size` is how many tokens there are in all. All processes do it again when one has to, and nothing may be said
        between them within `work`. Raises `UserError` when even the smallest part does not fit.
        """
        while True:
            done: list[T] = []
            try:
                done.append(work(self.tokens[phase]))
            except (MemoryError, RuntimeError) as error:
                if not ran_out_of_memory(error):
                    raise
            # Outside the handler: its traceback would keep the tensors of the failed attempt alive.
            if not (done and self._keeps):
                self._release()
            if self._sharding:
                self._catch_up(phase, self._sharding, failed=not done)
            elif self._processes.any(not done):
                self._halve(phase, int(self._processes.largest(min(self.tokens[phase], size))))
                continue
            return done[0]

    def _catch_up(self, phase: str, sharding: Sharding, *, failed: bool) -> None:
        """A process that left a forward half-way cannot do it again: the others wait for it within theirs."""
        if failed:
            raise UserError(
                f"out of memory in the {phase} phase of a sharded model; set a smaller optim.micro_batch_tokens or "
                "rollout.problems, or model.gradient_checkpointing=true, and continue with --resume"
            )
        sharding.catch_up()

    def _halve(self, phase: str, budget: int) -> None:
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if budget // 2 < SMALLEST:
            raise UserError(
                f"out of memory in the {phase} phase with {budget} tokens at once; use a shorter rollout.length, "
                f"{'model.gradient_checkpointing=true, ' if phase == UPDATE else ''}or a smaller model"
            )
        self.tokens[phase] = budget // 2
        logger.warning("out of memory in the %s phase: from now on at most %d tokens at once", phase, budget // 2)


def ran_out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed, on a GPU or in main memory, rather than anything else."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(message in str(error) for message in _CPU_MESSAGES)


def peak_memory(device: torch.device) -> int:
    """Most bytes in use so far: of the GPU, or of the process's resident memory."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
