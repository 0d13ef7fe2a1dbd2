"""Wordings of both prompts on a chat model, to choose the defaults from, as Markdown tables and JSON.

    MARKOV_COT_DATA=... python benchmarks/wordings.py --model SMOLLM2 --out wordings.json

First the reader's prompts: what each makes of a CoT that states the true answer (ceiling), of an empty one (floor), and
of the same CoTs, which the model wrote to the bare question. Then the actor's prompts: how many of the CoTs that they
get hold the answer, and what the reader's prompt in use makes of them. Greedy throughout, on problems of the training
split, n of each dataset.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from measure import positive

from markov_cot.config.prompt import Example, Prompt
from markov_cot.config.reward import Reward
from markov_cot.config.schema import Data, Lora, Model
from markov_cot.data.problem import Problem
from markov_cot.data.prompts import Prompts
from markov_cot.data.registry import load
from markov_cot.data.sampler import sample
from markov_cot.evaluation.answering import Answer, answer_from_cots
from markov_cot.evaluation.reader_check import stated_cots
from markov_cot.evaluation.validation import summarise
from markov_cot.models import loading
from markov_cot.models.memory import FixedBudget
from markov_cot.models.policy import Policy
from markov_cot.rewards.reader_models import make_readers
from markov_cot.rewards.readers import Readers
from markov_cot.rollouts.sampler import Sampler
from markov_cot.tracking.metrics import states_answer

DATASETS: dict[str, dict[str, Any]] = {
    "xquad": {"dataset": "squad"},
    "svamp": {"dataset": "svamp"},
    "arc-easy": {"dataset": "arc", "subset": "easy"},
}
BUDGET, BATCH = 16384, 16

QUESTIONS: dict[str, dict[str, Any]] = {
    "paper": {"preset": "paper"},
    "bare": {"question": "{problem}", "cot_prefix": ""},
    "steps": {"question": "{problem}\n\nThink step by step, then give the answer.", "cot_prefix": ""},
    "let's": {"question": "{problem}", "cot_prefix": "Let's think step by step."},
    "sentence": {
        "question": "{problem}\n\nAnswer in one sentence that repeats what was asked.",
        "cot_prefix": "",
    },
    "reader": {
        "question": "{problem}\n\nExplain the answer to somebody who has not seen the question; end with the answer.",
        "cot_prefix": "",
    },
    "first": {"question": "{problem}\n\nGive the answer first, then explain it briefly.", "cot_prefix": ""},
    "prefilled": {"question": "{problem}", "cot_prefix": "The answer is"},
}
"""The actor's prompts, by name."""

_EXAMPLES: dict[str, list[tuple[str, str]]] = {
    "text": [
        (" The tower was finished in 1889, and it stands in Paris.", "1889"),
        (" According to the text, it was the farmers who asked for a new bridge.", "the farmers"),
        (" Her second novel, The Glass Garden, made her famous.", "The Glass Garden"),
        (" It says that about 40 percent of the island is covered by forest.", "40 percent"),
    ],
    "numeric": [
        (" Three boxes hold 12 pens each, so there are 3 * 12 = 36 pens.", "36"),
        (" She had 50 and spent 15. That leaves 50 - 15 = 35.", "35"),
        (" Each of the 4 friends gets 20 / 4 = 5 sweets.", "5"),
        (" There were 7 birds and 6 more came: 13 birds in all.", "13"),
    ],
    "choice": [
        (" Heat makes the water evaporate, so the right choice is C) evaporation.", "C"),
        (" Only the fox eats rabbits. The answer is A.", "A"),
        (" B) a lever, since it turns around a fixed point.", "B"),
        (" Iron is a metal and conducts electricity. D.", "D"),
    ],
}


def _examples(count: int) -> dict[str, tuple[Example, ...]]:
    return {kind: tuple(Example(cot=c, answer=a) for c, a in rows[:count]) for kind, rows in _EXAMPLES.items()}


READERS: dict[str, dict[str, Any]] = {
    "default": {},
    "paper": {"preset": "paper"},
    "somebody": {
        "answer": "Here is somebody's reasoning:\n{cot}\n\nWhat is the final answer? Give only the answer.",
        "answer_prefix": "The answer is:",
    },
    "somebody, 2 examples": {
        "answer": "Here is somebody's reasoning:\n{cot}\n\nWhat is the final answer? Give only the answer.",
        "answer_prefix": "The answer is:",
        "examples": _examples(2),
    },
    "own turn": {"answer": "Answer the question.", "answer_prefix": "{cot}\nSo the final answer is:"},
    "chat, 2 examples": {"answer": "Notes:{cot}", "answer_prefix": "Answer:", "examples": _examples(2)},
    "plain": {"answer": "Notes:{cot}\n", "answer_prefix": "Answer:", "answer_chat": False},
    "plain, final": {"answer": "{cot}\n", "answer_prefix": "Final answer:", "answer_chat": False},
    "plain, 2 examples": {
        "answer": "Notes:{cot}\n",
        "answer_prefix": "Answer:",
        "answer_chat": False,
        "examples": _examples(2),
    },
    "plain, 4 examples": {
        "answer": "Notes:{cot}\n",
        "answer_prefix": "Answer:",
        "answer_chat": False,
        "examples": _examples(4),
    },
    "plain, 2, reasoning": {
        "answer": "Reasoning:{cot}\n",
        "answer_prefix": "The final answer:",
        "answer_chat": False,
        "examples": _examples(2),
    },
}
"""The reader's prompts, by name."""
REFERENCE = "bare"
"""The actor's prompt whose CoTs all readers are given."""


@dataclass(frozen=True)
class Bench:
    """A model and some problems of one dataset."""

    policy: Policy
    problems: Sequence[Problem]
    length: int

    def readers(self, wording: Mapping[str, Any]) -> Readers:
        """The base as reader, its prompt worded so."""
        prompt = Prompt(**wording)
        prompts = Prompts(self.policy.tokenizer, prompt, vocabulary=self.policy.vocabulary)
        return make_readers(Reward(), self.policy, prompts, FixedBudget(BUDGET))

    def cots(self, wording: Mapping[str, Any]) -> list[list[int]]:
        """What the base writes when it is asked so."""
        readers, cots = self.readers(wording), list[list[int]]()
        sampler = Sampler(self.policy, readers.budgets)
        for part in self._parts():
            contexts = [readers.prompts.question_context(problem) for problem in self.problems[part]]
            cots += sampler.greedy_cots(contexts, self.length, "critic")
        return cots

    def answered(self, readers: Readers, cots: Sequence[Sequence[int]]) -> dict[str, float | None]:
        """How well answers are given from CoTs."""
        answers = [a for part in self._parts() for a in answer_from_cots(readers, self.problems[part], cots[part])]
        score = summarise(answers)
        return {"accuracy": score.accuracy, "logprob": score.answer_logprob, "holds": _holding(answers)}

    def _parts(self) -> list[slice]:
        return [slice(start, start + BATCH) for start in range(0, len(self.problems), BATCH)]


def _holding(answers: Sequence[Answer]) -> float:
    """Share of the CoTs that hold an accepted answer."""
    return sum(states_answer(answer.cot, answer.problem) for answer in answers) / len(answers)


def measure(bench: Bench, chosen: str) -> dict[str, Any]:
    """Both tables of one dataset. `chosen` is the reader's prompt that the actor's are measured with."""
    readers: dict[str, Any] = {}
    cots = bench.cots(QUESTIONS[REFERENCE])
    for name, wording in READERS.items():
        reader = bench.readers(wording)
        ceiling = bench.answered(reader, stated_cots(reader.prompts, bench.problems))
        floor = bench.answered(reader, [[] for _ in bench.problems])
        readers[name] = bench.answered(reader, cots) | {
            "ceiling": ceiling["accuracy"],
            "floor": floor["accuracy"],
            "ceiling_logprob": ceiling["logprob"],
            "floor_logprob": floor["logprob"],
        }
    reader = bench.readers(READERS[chosen])
    actors = {name: bench.answered(reader, bench.cots(wording)) for name, wording in QUESTIONS.items()}
    return {"n": len(bench.problems), "readers": readers, "actors": actors}


def table(rows: Mapping[str, Mapping[str, float]], keys: Sequence[str]) -> str:
    """Markdown, a row a wording."""
    lines = [f"| prompt | {' | '.join(keys)} |", "|---" * (len(keys) + 1) + "|"]
    lines += [f"| {name} | {' | '.join(f'{row[key]:.3f}' for key in keys)} |" for name, row in rows.items()]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="a chat model's folder or hub id")
    parser.add_argument("--n", type=positive, default=200, help="problems of each dataset")
    parser.add_argument("--length", type=positive, default=40, help="tokens of a CoT")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="bfloat16")
    parser.add_argument("--reader", choices=list(READERS), default="default")
    parser.add_argument("--dataset", choices=list(DATASETS), action="append")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    settings = Model(name=args.model, dtype=args.dtype, device="cpu")
    base = loading.load_base(settings, torch.device("cpu"))
    policy = Policy(loading.add_adapter(base, Lora(), 0), loading.load_tokenizer(settings))
    found = {}
    for name in args.dataset or DATASETS:
        splits = load(Data(**DATASETS[name]), policy.tokenizer)
        problems = sample(splits.train, args.n, 0, lambda _: True)
        started = time.perf_counter()
        found[name] = measure(Bench(policy, problems, args.length), args.reader)
        print(f"{name}: {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
        print(f"{name}, n = {found[name]['n']}\n")
        print(table(found[name]["readers"], ("ceiling", "floor", "accuracy", "ceiling_logprob", "logprob")), end="\n\n")
        print(table(found[name]["actors"], ("holds", "accuracy", "logprob")), end="\n\n", flush=True)
        if args.out:
            args.out.write_text(json.dumps(found, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
