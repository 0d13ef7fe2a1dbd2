"""The quickstart over several seeds, with two controls that show the CoT is what carries the answer.

    python benchmarks/quickstart.py --out FOLDER --seeds 0 1 2

For each seed: the wall time of `markov-cot train`, held-out accuracy of base and trained actor, and, on the same
problems, the accuracy when the trained CoTs are shuffled between problems and when CoTs are written by hand.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from random import Random

import torch
from peft import PeftModel

from markov_cot.config.loading import build_config, read_recipe
from markov_cot.config.schema import Config
from markov_cot.data.problem import Problem
from markov_cot.data.prompts import Prompts
from markov_cot.data.registry import load
from markov_cot.data.sampler import sample
from markov_cot.evaluation.answering import answer_from_cots
from markov_cot.evaluation.validation import summarise
from markov_cot.models.loading import load_base, load_tokenizer
from markov_cot.models.memory import FixedBudget
from markov_cot.models.nano.documents import FILLERS
from markov_cot.models.policy import Policy
from markov_cot.rewards.reader_models import make_readers
from markov_cot.rollouts.sampling import greedy_cots


def train(folder: Path, seed: int, settings: list[str]) -> dict[str, float]:
    """Runs the quickstart in `folder` and returns its figures."""
    command = [sys.executable, "-m", "markov_cot", "train", "--seed", str(seed), "--run", f"seed{seed}", *settings]
    started = time.perf_counter()
    subprocess.run(command, cwd=folder, check=True, stdout=sys.stderr)
    seconds = time.perf_counter() - started
    summary = json.loads((folder / "runs" / f"seed{seed}" / "summary.json").read_text())
    scores = {name: summary[name]["accuracy"] for name in ("base", "trained")}
    return {"seed": seed, "seconds": round(seconds), **scores}


def by_hand(policy: Policy, problem: Problem, length: int, rng: Random) -> list[int]:
    """The worked solution as CoT ids, filled up with small talk to exactly `length` tokens."""
    text, ids = f" {problem.rationale}", []
    while len(ids) < length + 4:
        text += " " + rng.choice(FILLERS)
        ids = policy.tokenizer(text, add_special_tokens=False).input_ids
    return ids[:length]


def controls(checkpoint: Path, config: Config) -> dict[str, float]:
    """Accuracy of trained, shuffled and hand-made CoTs on the held-out problems of the final table."""
    tokenizer = load_tokenizer(config.model)
    base = load_base(config.model, torch.device("cpu"))
    policy = Policy(PeftModel.from_pretrained(base, checkpoint), tokenizer)
    prompts = Prompts(tokenizer)
    readers = make_readers(config.reward, policy, prompts, FixedBudget(config.optim.micro_batch_tokens))
    validation = load(config.data).validation
    problems = sample(validation, config.validation.final_problems, 0, lambda _: True)
    length, rng = config.rollout.length, Random(0)

    def accuracy(cots: list[list[int]]) -> float | None:
        return summarise(answer_from_cots(readers, problems, cots)).accuracy

    contexts = [prompts.question_context(p) for p in problems]
    own = greedy_cots(policy, contexts, length, "actor").tolist()
    return {
        "own CoTs": accuracy(own),
        "shuffled CoTs": accuracy([*own[1:], own[0]]),
        "hand-made CoTs": accuracy([by_hand(policy, p, length, rng) for p in problems]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--set", nargs="*", default=[], help="settings passed on to train")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    config = build_config(read_recipe("quickstart"), "quickstart")
    for seed in args.seeds:
        figures = train(args.out, seed, [part for s in args.set for part in ("--set", s)])
        figures |= controls(args.out / "checkpoints" / f"seed{seed}" / "latest", config)
        print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    main()
