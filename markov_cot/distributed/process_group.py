"""What the processes of one run say to each other; with a single process nothing is said and nothing changes.

Every call but those of `rank`, `is_first`, `share` and `part` is for all processes at the same place. Values travel as
JSON or as tensors, never pickled, and what is decided on is the first process's word, so that all decide alike.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from markov_cot.distributed.launch import read_launch
from markov_cot.utils.errors import PeerLostError, UserError

T = TypeVar("T")

TIMEOUT = timedelta(minutes=10)
"""For one exchange: longer than the first process takes to save, the slowest to load the base, or any to be stuck."""
_BUSY_SECONDS, _NAP_SECONDS = 0.002, 0.001
_SIGNS_OF_LOSS = ("gloo", "nccl", "connection closed", "connection reset", "broken pipe", "wait timeout")


@dataclass(frozen=True, slots=True)
class Processes:
    """The processes of a run, as one of them sees them."""

    rank: int = 0
    count: int = 1
    local_rank: int = 0
    """Rank among those of the same machine..."""
    local_count: int = 1
    """...and how many those are."""

    @property
    def is_first(self) -> bool:
        """Whether this one writes the files."""
        return self.rank == 0

    # --- who does what

    def share(self, n: int) -> range:
        """Which of n items are this process's: a contiguous block; all blocks in order of rank are all items."""
        return range(self.rank * n // self.count, (self.rank + 1) * n // self.count)

    def part(self, items: Sequence[T]) -> Sequence[T]:
        """This process's share of the items."""
        own = self.share(len(items))
        return items[own.start : own.stop]

    # --- tensors

    def gather(self, own: Tensor) -> Tensor:
        """The tensors of all, of any length each, joined along the first dimension in order of rank."""
        if self.count == 1:
            return own
        sizes = [int(size) for size in self.collect(len(own))]
        padded = own.new_zeros((max(sizes), *own.shape[1:]))
        padded[: len(own)] = own
        parts = [torch.empty_like(padded) for _ in sizes]
        _finish(dist.all_gather(parts, padded, async_op=True))
        return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])

    def sum_gradients(self, parameters: Sequence[torch.nn.Parameter]) -> None:
        """Adds up the parameters' gradients over all processes, in one exchange; one that has none adds zero."""
        if self.count == 1:
            return
        shares = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        together = torch.cat([share.flatten() for share in shares])
        _finish(dist.all_reduce(together, async_op=True))
        for parameter, total in zip(parameters, torch.split(together, [p.numel() for p in parameters]), strict=True):
            parameter.grad = total.view_as(parameter)

    # --- numbers and JSON

    def sum(self, values: Sequence[float]) -> list[float]:
        """Sums over all processes, value by value."""
        return self._reduced(values, dist.ReduceOp.SUM)

    def largest(self, value: int | float) -> float:
        """The largest of all processes' values."""
        return self._reduced([float(value)], dist.ReduceOp.MAX)[0]

    def any(self, flag: bool) -> bool:
        """Whether it is so in any process."""
        return flag if self.count == 1 else bool(self.largest(float(flag)))

    def collect(self, value: Any) -> list[Any]:
        """The JSON values of all, in order of rank."""
        if self.count == 1:
            return [value]
        own = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)
        sizes = [torch.zeros(1, dtype=torch.long) for _ in range(self.count)]
        _finish(dist.all_gather(sizes, torch.tensor([len(own)]), async_op=True))
        padded = torch.zeros(int(max(sizes)), dtype=torch.uint8)
        padded[: len(own)] = own
        parts = [torch.empty_like(padded) for _ in sizes]
        _finish(dist.all_gather(parts, padded, async_op=True))
        return [json.loads(part[: int(n)].numpy().tobytes()) for part, n in zip(parts, sizes, strict=True)]

    def agree(self, value: T) -> T:
        """The first process's value, which must be JSON; the others' is for nothing but its type."""
        if self.count == 1:
            return value
        agreed: T = self.collect(value if self.is_first else None)[0]
        return agreed

    def mean(self, values: dict[str, float]) -> dict[str, float]:
        """Means over all processes, key by key."""
        rows = self.collect(values)
        return values if self.count == 1 else {key: sum(row[key] for row in rows) / len(rows) for key in values}

    def _reduced(self, values: Sequence[float], operation: Any) -> list[float]:
        if self.count == 1:
            return list(values)
        together = torch.tensor(values, dtype=torch.float64)
        _finish(dist.all_reduce(together, operation, async_op=True))
        return together.tolist()

    # --- together

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """What one process refuses within it (`UserError`), all refuse at its end. Nothing may be said within it."""
        fault: UserError | None = None
        try:
            yield
        except UserError as error:
            if self.count == 1:
                raise
            fault = error
        faults = [text for text in self.collect(str(fault) if fault else None) if text]
        if faults:
            raise UserError(faults[0]) from None

    def in_turn(self, work: Callable[[], T]) -> T:
        """`work()`, by one process of a machine after the other; nothing may be said within it."""
        done: list[T] = []
        for turn in range(int(self.largest(self.local_count))):
            with self.together():
                if turn == self.local_rank:
                    done.append(work())
        return done[0]


ALONE = Processes()


def join(*, cpu: bool, command: str = "train") -> Processes:
    """Meet the other processes that the launcher started, in what `command` names.

    Raises `UserError` when they cannot be met.
    """
    launch = read_launch(command=command)
    if launch.count == 1:
        return ALONE
    if not dist.is_initialized():
        on_gpus = torch.cuda.is_available() and not cpu
        try:
            if on_gpus:
                if launch.local_rank is None:
                    raise RuntimeError("LOCAL_RANK not set")
                torch.cuda.set_device(launch.local_rank)
            _in_background(lambda: _meet(launch.local_rank if on_gpus else None))
        except (ValueError, RuntimeError) as error:
            reason = str(error).strip().splitlines()[0]
            raise UserError(
                f"{command}: {launch.count} processes were started and cannot meet ({reason}); start them with "
                "torchrun or accelerate launch, one for each GPU"
            ) from None
    return Processes(dist.get_rank(), launch.count, launch.local_rank or 0, launch.local_count or launch.count)


def _meet(gpu: int | None) -> None:
    """Joins the group; on a GPU, which every thread has to choose for itself."""
    if gpu is not None:
        torch.cuda.set_device(gpu)
    dist.init_process_group("gloo" if gpu is None else "cpu:gloo,cuda:nccl", timeout=TIMEOUT)


def leave() -> None:
    """Waits until all have come as far, and parts from them."""
    if dist.is_initialized():
        _finish(dist.barrier(async_op=True))
        dist.destroy_process_group()


class Patience:
    """How long one exchange may take before this process ends by itself; no limit but `TIMEOUT` until there is one."""

    def __init__(self) -> None:
        self._seconds = float("inf")
        self._since = 0.0

    def limit(self, seconds: float) -> None:
        """From now on an exchange that takes longer raises `KeyboardInterrupt`, also the one that is waited for."""
        self._seconds, self._since = seconds, time.monotonic()

    def lift(self) -> None:
        """No limit again."""
        self._seconds = float("inf")

    def check(self, started: float) -> None:
        """Raises `KeyboardInterrupt` when an exchange that began at `started` has taken too long."""
        if time.monotonic() - max(started, self._since) > self._seconds:
            raise KeyboardInterrupt


PATIENCE = Patience()


def _finish(work: Any) -> None:
    """Waits for an exchange, in short naps: within a single long wait Python would hear of no signal."""
    started = time.monotonic()
    while not work.is_completed():
        PATIENCE.check(started)
        time.sleep(0 if time.monotonic() - started < _BUSY_SECONDS else _NAP_SECONDS)
    work.wait()


def _in_background(work: Callable[[], None]) -> None:
    """`work()` in a thread of its own, so that this one hears of signals meanwhile."""
    faults: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            faults.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(_NAP_SECONDS * 50)
    if faults:
        raise faults[0]


@contextlib.contextmanager
def noticing_loss(
    command: str = "train", remedy: str = "continue from the newest checkpoint with --resume"
) -> Iterator[None]:
    """Within it an exchange that fails because another process is gone raises `PeerLostError`."""
    try:
        yield
    except RuntimeError as error:
        text = f"{type(error).__name__} {error}".lower()
        if not dist.is_initialized() or not any(sign in text for sign in _SIGNS_OF_LOSS):
            raise
        raise PeerLostError(
            f"{command}: another process of this run has ended or does not answer; see what it says, then {remedy}"
        ) from None
