"""Kills short runs with SIGKILL at random moments, resumes them, and compares with the run that nobody killed.

python benchmarks/kill_resume.py --out FOLDER --kills 50 [--algorithms ppo ema ...]

Every algorithm is killed `--kills` times, every other time in the middle of saving. A run that was resumed may be
killed again, so the kills fall on fresh and on resumed runs, on start-up, steps, validation and the end. Each run that
got through must have, byte for byte, the adapter, state, sample and alarm files of the run that was left alone, the
same log lines but for perf/*, each once, and in TensorBoard every step of every tag once.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from markov_cot.checkpoints.manifest import WEIGHTS
from markov_cot.config.loading import build_config
from markov_cot.config.schema import Config, Model
from markov_cot.models import loading as models
from markov_cot.training.setup import open_session
from markov_cot.training.trainer import Trainer
from markov_cot.utils.files import replace_file

STEPS = 6
ALGORITHMS: dict[str, dict[str, Any]] = {
    "group": {},
    "ppo": {"algorithm": {"loss": "ppo", "inner_epochs": 2, "minibatches": 2}},
    "ema": {"algorithm": {"advantage": "ema"}},
    "expert": {"algorithm": {"advantage": "expert", "expert_warmup": 2, "expert_threshold": 0.2}},
    "raw": {"algorithm": {"advantage": "raw"}},
    "normalized": {"algorithm": {"advantage": "normalized"}},
    "adaptive-kl": {"algorithm": {"kl_target": 0.01}},
    "dynamic": {"algorithm": {"resample_dead": 2, "sigma_floor": 0.5}},
    "actor": {"reward": {"reader": "actor"}, "algorithm": {"actor_reward_weight": 1.0, "actor_reward_ramp": 5}},
    "entropy": {"algorithm": {"entropy_weight": 0.01}},
    "non-markovian": {"prompt": {"markovian": False}},
    "schedule": {"optim": {"lr": 1e-2, "schedule": "cosine"}},
    "patience": {"optim": {"lr": 1e-9}, "validation": {"every": 1, "patience": 3}},
    "sft": {
        "method": "sft",
        "sft": {"steps": STEPS, "batch": 3, "limit": 12, "every": 3, "hard_repeats": 2, "curriculum": True, "lr": 1e-2},
    },
    "rollback": {
        "alarms": {"action": "rollback", "rollback_limit": 2, "kl": {"warn": 0.03, "critical": 0.03, "hard": 0.03}}
    },
}


def config_of(folder: Path, algorithm: str) -> Config:
    """P 1, G 4, L 8, a checkpoint after every step."""
    values: dict[str, Any] = {
        "steps": STEPS,
        "data": {"dataset": "arithmetic", "terms": [2, 3]},
        "rollout": {"problems": 1, "samples": 4, "length": 8},
        "optim": {"lr": 1e-2, "warmup_steps": 2},
        "validation": {"every": 3, "problems": 2, "final_problems": 2, "reader_check": 0},
        "checkpoint": {
            "every": 1,
            "keep": 2,
            "runs_dir": str(folder / "runs"),
            "checkpoints_dir": str(folder / "checkpoints"),
        },
        "tracking": {"samples_every": 2},
        # A run that an alarm has stopped goes on when it is resumed, so a kill between its last save and its end shows.
        "alarms": {"action": "continue"},
    }
    for key, value in ALGORITHMS[algorithm].items():
        values[key] = values.get(key, {}) | value if isinstance(value, dict) else value
    return build_config(values, algorithm)


def train(folder: Path, algorithm: str) -> None:
    """What a user would do: start, or resume what is there."""
    resume = (folder / "runs" / "r" / "config.yaml").exists()
    trainer = Trainer(open_session(config_of(folder, algorithm), "r", "kill", resume=resume))
    if resume:
        trainer.state.resume()
    trainer.run(lambda *_: None)
    replace_file(folder / "done", trainer.state.folder.name.encode())


def forked(work: Callable[[], None]) -> int:
    """Process id of a child that does `work`."""
    child = os.fork()
    if child:
        return child
    try:
        work()
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def finish(child: int) -> None:
    """Waits for a child, which must end well."""
    _, status = os.waitpid(child, 0)
    if status:
        sys.exit(f"a run that was not killed ended with status {status}")


def kill_after(child: int, seconds: float, saving: Path | None) -> bool:
    """Whether the child was still running after `seconds`, and so was killed; with `saving`, once it next saves there.

    A save is seen by its temporary folder.
    """
    end = time.monotonic() + seconds
    while time.monotonic() < end or (saving and not list(saving.glob(".adapter_*"))):
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            if status:
                sys.exit(f"a run that was not killed ended with status {status}")
            return False
        time.sleep(0.0005)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return True


def outcome(folder: Path) -> dict[str, Any]:
    """All of a finished run that must not depend on kills."""
    runs = folder / "runs" / "r"
    lines = [json.loads(line) for line in (runs / "log.jsonl").read_text().splitlines()]
    board = EventAccumulator(str(runs), size_guidance={"scalars": 0, "tensors": 0, "histograms": 0}).Reload()
    steps = {
        tag: [event.step for event in read(tag)]
        for kind, read in (("scalars", board.Scalars), ("tensors", board.Tensors), ("histograms", board.Histograms))
        for tag in board.Tags()[kind]
    }
    last = (folder / "done").read_text()
    return {
        "adapter": (folder / "checkpoints" / "r" / last / WEIGHTS).read_bytes(),
        "state": (folder / "checkpoints" / "r" / last / "trainer" / "state.json").read_bytes(),
        "log": [{k: v for k, v in line.items() if not k.startswith("perf/")} for line in lines],
        "samples": (runs / "samples.jsonl").read_bytes(),
        "alarms": (runs / "alarms.jsonl").read_bytes(),
        "summary": (runs / "summary.json").read_bytes() if (runs / "summary.json").exists() else None,
        "board": {tag: sorted(found) for tag, found in steps.items()},
    }


def differences(folder: Path, expected: dict[str, Any]) -> list[str]:
    """What of a finished run is not as it should be."""
    found = outcome(folder)
    steps = [line["step"] for line in found["log"]]
    wrong = [name for name in expected if found[name] != expected[name]]
    wrong += ["doubled or lost lines"] if steps != sorted(set(steps)) else []
    return wrong + [f"{tag} twice in TensorBoard" for tag, s in found["board"].items() if len(s) != len(set(s))]


def where(folder: Path) -> str:
    """What a kill interrupted, as far as the files tell."""
    if list((folder / "checkpoints").glob("r/.*")):
        return "saving"
    if not (folder / "runs" / "r" / "config.yaml").exists():
        return "before the config"
    return "elsewhere"


def benchmark(out: Path, algorithm: str, kills: int, dice: random.Random) -> dict[str, Any]:
    """Kills runs of one algorithm; returns how often, where, and how many came out identical."""
    whole = out / algorithm / "whole"
    started = time.monotonic()
    finish(forked(lambda: train(whole, algorithm)))
    seconds = time.monotonic() - started
    expected = outcome(whole)
    done, runs, identical = Counter[str](), 0, 0
    while done.total() < kills:
        folder = out / algorithm / f"run{runs}"
        killed = 0
        # One run in three is killed a second time, and so on; the last attempt is left alone.
        while done.total() < kills and (not killed or dice.random() < 1 / 3):
            # Saving is a small part of the time, so every other kill waits for it.
            saving = folder / "checkpoints" / "r" if done.total() % 2 else None
            child = forked(lambda: train(folder, algorithm))  # noqa: B023 - used before the loop goes on
            if not kill_after(child, dice.uniform(0, seconds), saving):
                break
            killed += 1
            done[where(folder)] += 1
        if not (folder / "done").exists():
            finish(forked(lambda: train(folder, algorithm)))  # noqa: B023 - used before the loop goes on
        runs += 1
        if wrong := differences(folder, expected):
            print(f"{algorithm} {folder}: differs in {', '.join(wrong)}", file=sys.stderr)
        else:
            identical += 1
            shutil.rmtree(folder)
    return {"kills": done.total(), "where": dict(done), "runs": runs, "identical": identical, "seconds": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--algorithms", nargs="+", choices=ALGORITHMS, default=list(ALGORITHMS))
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    # Loaded once; every child has a copy of its own.
    tokenizer, base = models.load_tokenizer(Model()), models.load_base(Model(), torch.device("cpu"))
    models.load_tokenizer = lambda _: tokenizer
    models.load_base = lambda *_: base
    dice = random.Random(args.seed)
    results = {}
    for algorithm in args.algorithms:
        results[algorithm] = benchmark(args.out, algorithm, args.kills, dice)
        print(algorithm, json.dumps(results[algorithm]), flush=True)
    (args.out / "results.json").write_text(json.dumps(results, indent=1))
    if any(result["identical"] != result["runs"] for result in results.values()):
        sys.exit("some runs differ from the run that was not killed")


if __name__ == "__main__":
    main()
