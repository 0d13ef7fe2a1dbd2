"""How good the bundled base is at each family it was pre-trained on, and whether it reads answers off CoTs.

    python benchmarks/base_skills.py

For sums of four terms, word problems and multiple choice, on problems of the validation split: accuracy of the base's
own greedy CoTs, of correct ones written by hand, and of those shuffled between problems, with the log-prob of the true
answer in nats per token. Prints a row of JSON for each family.
"""

from __future__ import annotations

import argparse
import json
from random import Random

import torch
from quickstart import by_hand

from markov_cot.config.loading import build_config, read_recipe
from markov_cot.config.schema import Config
from markov_cot.data.prompts import Prompts
from markov_cot.data.registry import load
from markov_cot.data.sampler import sample
from markov_cot.evaluation.answering import answer_from_cots
from markov_cot.evaluation.validation import summarise
from markov_cot.models.loading import add_adapter, load_base, load_tokenizer
from markov_cot.models.memory import FixedBudget
from markov_cot.models.policy import Policy
from markov_cot.rewards.reader_models import make_readers
from markov_cot.rollouts.sampling import greedy_cots

FAMILIES = ("arithmetic", "words", "choices")


def settings(family: str) -> Config:
    """The quickstart's, on another family of problems."""
    values = read_recipe("quickstart")
    values["data"] = values["data"] | {"dataset": family}
    return build_config(values, "quickstart")


def skills(policy: Policy, family: str, count: int) -> dict[str, object]:
    """Accuracy and answer log-prob after each kind of CoT, all of the quickstart's length."""
    config, prompts = settings(family), Prompts(policy.tokenizer)
    readers = make_readers(config.reward, policy, prompts, FixedBudget(config.optim.micro_batch_tokens))
    problems = sample(load(config.data).validation, count, 0, lambda _: True)
    length, rng = config.rollout.length, Random(0)
    written = [by_hand(policy, problem, length, rng) for problem in problems]
    contexts = [prompts.question_context(problem) for problem in problems]
    cots = {
        "own": greedy_cots(policy, contexts, length, "critic").tolist(),
        "by hand": written,
        "by hand, shuffled": [*written[1:], written[0]],
    }
    row: dict[str, object] = {"family": family, "n": len(problems)}
    for kind, those in cots.items():
        score = summarise(answer_from_cots(readers, problems, those))
        row[kind] = [score.accuracy, round(score.answer_logprob, 3)]
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=500, help="problems of each family")
    args = parser.parse_args()
    config = settings("arithmetic")
    model = add_adapter(load_base(config.model, torch.device("cpu")), config.lora, config.seed)
    policy = Policy(model, load_tokenizer(config.model))
    for family in FAMILIES:
        print(json.dumps(skills(policy, family, args.n)), flush=True)


if __name__ == "__main__":
    main()
