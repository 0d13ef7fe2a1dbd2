"""What the environment says of the processes that a launcher started, read without torch.

torchrun and `accelerate launch` set RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE, MASTER_ADDR and MASTER_PORT.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from markov_cot.utils.errors import UserError

_REMEDY = "start them with torchrun or accelerate launch, one for each GPU"
_PORTS = 65535
_COUNTS = {
    "SLURM_STEP_NUM_TASKS": "srun",
    "OMPI_COMM_WORLD_SIZE": "mpirun",
    "PMI_SIZE": "mpirun",
    "MV2_COMM_WORLD_SIZE": "mpirun",
}
"""What starters that are no launchers of torch's say of the number of processes."""


@dataclass(frozen=True, slots=True)
class Launch:
    """This process among those of the run; the default is a single one."""

    rank: int = 0
    count: int = 1
    local_rank: int | None = None
    """Rank among those of the same machine; None where the launcher does not say."""
    local_count: int | None = None


def read_launch(environment: Mapping[str, str] = os.environ, command: str = "train") -> Launch:
    """Return what the environment says.

    Variables that mean a single process, however few of them are set, are just that. Raises `UserError`, which begins
    with `command`, for what is incomplete or contradicts itself.
    """
    try:
        return _read(environment)
    except UserError as error:
        raise UserError(f"{command}: {error}") from None


def _read(environment: Mapping[str, str]) -> Launch:
    count = _number(environment, "WORLD_SIZE")
    rank, local_rank = (_number(environment, name) for name in ("RANK", "LOCAL_RANK"))
    local_count = _number(environment, "LOCAL_WORLD_SIZE")
    if count is None:
        _check_alone(environment, {"RANK": rank, "LOCAL_RANK": local_rank})
        return Launch()
    for name, of, n, all_ in (
        ("RANK", "WORLD_SIZE", rank, count),
        ("LOCAL_RANK", "LOCAL_WORLD_SIZE", local_rank, local_count),
    ):
        if all_ is not None and not (n or 0) < all_:
            raise UserError(f"{name}={n or 0} and {of}={all_} contradict each other; unset both, or {_REMEDY}")
    if count == 1:
        return Launch()
    needed = ("RANK", "MASTER_ADDR", "MASTER_PORT")
    if missing := [name for name in needed if not environment.get(name, "").strip()]:
        raise UserError(f"{count} processes were started and cannot meet ({', '.join(missing)} not set); {_REMEDY}")
    if not 0 < (_number(environment, "MASTER_PORT") or 0) <= _PORTS:
        raise UserError(f"MASTER_PORT={environment['MASTER_PORT']}: is no port; {_REMEDY}")
    return Launch(rank or 0, count, local_rank, local_count)


def _check_alone(environment: Mapping[str, str], ranks: Mapping[str, int | None]) -> None:
    """Refuses to run as a single process what was started as one of several."""
    for name, value in ranks.items():
        if value:
            raise UserError(
                f"{name}={value} says that there are other processes, and WORLD_SIZE is not set; unset {name}, "
                f"or {_REMEDY}"
            )
    counts = {name: _number(environment, name) or 1 for name in _COUNTS}
    if name := next((name for name, count in counts.items() if count > 1), ""):
        raise UserError(
            f"{_COUNTS[name]} started {counts[name]} processes ({name}), which would each do the same; "
            "start one for each machine, and torchrun in it (docs/scaling.md)"
        )
    if task := _number(environment, "SLURM_PROCID"):
        raise UserError(
            f"SLURM_PROCID={task} says that srun started several processes, which would each do the same; "
            "start one for each machine, and torchrun in it (docs/scaling.md)"
        )


def _number(environment: Mapping[str, str], name: str) -> int | None:
    """A variable's value, at least 0, or 1 where it counts; None where it is not set or empty."""
    text = environment.get(name, "").strip()
    if not text:
        return None
    least = int(not name.endswith(("RANK", "PROCID", "PORT")))
    if not (text.isascii() and text.isdigit() and int(text) >= least):
        raise UserError(f"{name}={text}: must be a whole number from {least}; unset it, or {_REMEDY}")
    return int(text)
