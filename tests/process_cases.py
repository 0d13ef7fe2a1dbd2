"""Short runs that tests/integration/test_processes.py makes with one process and, by tests/two_ranks.py, with two."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch.distributed.tensor import DTensor
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from markov_cot.config.schema import Config, Model
from markov_cot.models import loading as models
from markov_cot.models.memory import UPDATE
from markov_cot.training.trainer import Trainer
from markov_cot.utils.errors import UserError
from tests import small_runs

PPO = {"loss": "ppo", "inner_epochs": 2, "minibatches": 3}
DYNAMIC = {"resample_dead": 2, "sigma_floor": 0.5}
ACTOR = {"reward": {"reader": "actor"}, "algorithm": {"actor_reward_weight": 1.0}}
OWN_TO_A_MACHINE = ("perf/",)
CASES: dict[str, dict[str, Any]] = {
    "group": {"steps": 6, "validation": {"every": 0}, "checkpoint": {"every": 6}},
    "ppo": {"steps": 3, "algorithm": PPO},
    "ema": {"steps": 3, "algorithm": {"advantage": "ema"}},
    "expert": {"steps": 3, "algorithm": {"advantage": "expert", "expert_warmup": 1, "expert_threshold": 0.2}},
    "dynamic": {"steps": 3, "algorithm": DYNAMIC},
    "actor": {"steps": 2, **ACTOR},
    "rollback": {
        "steps": 3,
        "alarms": {
            "action": "rollback",
            "rollback_limit": 1,
            "rollback_lr_factor": 0.5,  # so that the alarm comes again and ends the run
            "kl": {"warn": 1e-4, "critical": 1e-3, "hard": 1e-2},
        },
    },
    "own alarm": {"steps": 5, "alarms": {"own": ["tests.own_alarms:patience"], "action": "stop"}},
    "sft": {
        "method": "sft",
        # A batch that two processes cannot share evenly.
        "sft": {"steps": 4, "batch": 5, "limit": 20, "every": 2, "hard_repeats": 2, "curriculum": True, "lr": 1e-2},
    },
    "resumed": {"steps": 4},
    "out of memory": {"steps": 2, "rollout": {"samples": 16, "length": 16}},
    "refused": {"steps": 2},
    # As few tokens at once as will make processes need different numbers of forwards.
    "shard": {"steps": 2, "model": {"shard": True}},
    "shard-ppo": {
        "steps": 2,
        "model": {"shard": True},
        "algorithm": PPO,
        "optim": {"micro_batch_tokens": 100},
        "validation": {"every": 0},
    },
    "shard-actor": {
        "steps": 2,
        "model": {"shard": True},
        **ACTOR,
        "optim": {"micro_batch_tokens": 100},
        "validation": {"every": 0},
    },
    "shard-rest": {
        "steps": 2,
        "model": {"shard": True, "gradient_checkpointing": True},
        # Not by groups: where all of them are dead, the first gradient is rounding, and AdamW makes it large.
        "algorithm": DYNAMIC | {"advantage": "ema"},
        "optim": {"micro_batch_tokens": 100},
    },
}


def config_of(folder: Path, case: str, **overrides: Any) -> Config:
    """Two problems a step, in float64; validation problems that two processes cannot share evenly."""
    values = {key: dict(value) if isinstance(value, dict) else value for key, value in CASES[case].items()}
    common = {
        "model": {"dtype": "float64", "device": "cpu"},
        "rollout": {"problems": 2},
        "validation": {"every": 2, "problems": 3, "final_problems": 3},
        "checkpoint": {"every": 2},
    }
    for key, value in (*common.items(), *overrides.items()):
        values[key] = value | values.get(key, {}) if isinstance(value, dict) else value
    return small_runs.config_of(folder / case.replace(" ", "-"), "group", **values)


def exact_norm(self: Any, x: Any) -> Any:
    """transformers computes norms in float32, which hides what float64 shows."""
    return self.weight * x * (x.square().mean(-1, keepdim=True) + self.variance_epsilon).rsqrt()


@contextmanager
def in_float64() -> Iterator[None]:
    """Within it the bundled base, loaded once, computes in float64 throughout."""
    base = models.load_base(Model(dtype="float64"), torch.device("cpu"))
    with small_runs.warm(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(models, "load_base", lambda config, _: _prepared(base, config))
        patch.setattr(LlamaRMSNorm, "forward", exact_norm)
        yield


def _prepared(base: Any, config: Model) -> Any:
    return models._prepare(copy.deepcopy(base), config.gradient_checkpointing)


def run_case(folder: Path, case: str) -> Any:
    """One process's part of a run; what it has to say of it, as JSON."""
    rank = int(os.environ["RANK"])
    if case == "refused":
        return _refused(folder, rank)
    made = small_runs.start(config_of(folder, case))
    if case == "out of memory":
        return _runs_out_of_memory(made, rank)
    asked = (lambda: made.state.progress.step == 2 and rank == 1) if case == "resumed" else (lambda: False)
    ended = made.run(lambda *_: None, asked)
    sharded = sum(isinstance(p, DTensor) for p in made.session.policy.model.parameters())
    return {
        "interrupted": ended.interrupted,
        "step": made.state.progress.step,
        "sharded": sharded,
        "lr_scale": made.state.progress.lr_scale,
    }


def _refused(folder: Path, rank: int) -> str:
    """A model that only the second process cannot load."""

    def fails(*_: Any) -> None:
        raise UserError("model nothing: cannot be loaded")

    with pytest.MonkeyPatch.context() as patch, pytest.raises(UserError) as caught:
        if rank == 1:
            patch.setattr(models, "load_base", fails)
        small_runs.start(config_of(folder, "refused"))
    return str(caught.value)


def _runs_out_of_memory(made: Trainer, rank: int) -> dict[str, int]:
    """Once, in the second process, in an update."""
    gradient, times = made.method.updater.gradient, []

    def failing(*args: Any, **kwargs: Any) -> Any:
        result = gradient(*args, **kwargs)
        times.append(1)
        if rank == 1 and len(times) == 1:
            raise MemoryError
        return result

    made.method.updater.gradient = failing  # type: ignore[method-assign]
    made.run(lambda *_: None)
    return {"tokens": made.budgets.tokens[UPDATE], "times": len(times)}


def main(folder: Path, cases: list[str]) -> None:
    """Runs the cases and writes what this process says of each."""
    with in_float64():
        said = {case: run_case(folder, case) for case in cases}
    (folder / f"rank{os.environ['RANK']}.json").write_text(json.dumps(said))


def adapter(folder: Path, case: str) -> dict[str, torch.Tensor]:
    path = folder / case.replace(" ", "-") / "checkpoints" / "r" / "latest" / "adapter_model.safetensors"
    return load_file(path)


def rows(folder: Path, case: str, name: str = "log.jsonl") -> list[dict[str, Any]]:
    lines = (folder / case.replace(" ", "-") / "runs" / "r" / name).read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if not k.startswith(OWN_TO_A_MACHINE)} for line in lines]


def assert_same(found: Path, expected: Path, case: str, *, within: float = 1e-8, metrics: float = 1e-6) -> None:
    """Parameters within `within`, and every metric but those of speed within `metrics`."""
    ours, theirs = adapter(found, case), adapter(expected, case)
    assert ours.keys() == theirs.keys()
    assert all(t.dtype == torch.float64 for t in theirs.values())
    for name, tensor in theirs.items():
        torch.testing.assert_close(ours[name], tensor, rtol=0, atol=within)
    assert any(tensor.any() for name, tensor in theirs.items() if "lora_B" in name)
    logged, expected_log = rows(found, case), rows(expected, case)
    assert len(logged) == len(expected_log)
    for row, one in zip(logged, expected_log, strict=True):
        assert row == pytest.approx(one, rel=metrics, abs=metrics)
