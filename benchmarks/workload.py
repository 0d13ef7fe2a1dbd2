"""Writes a folder that both sides of a comparison read: the model, its tokenizer, and problems.

    python benchmarks/workload.py --model 56m --prompt 150 --out FOLDER

`--model` is `nano` (the bundled model), a size of `random_llama.py`, or the folder of a real model. The problems are
sums. With `--prompt N` words are added to each question until the question context has exactly N tokens. Besides
question and answer, a row has what other trainers need to do the same work without this project's code: the prompt as
text, and the token ids around a CoT from which the critic reads the answer.
"""

from __future__ import annotations

import argparse
import json
import shutil
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import random_llama
import torch
from measure import DTYPES, fail, positive

from markov_cot.config.schema import Model
from markov_cot.data.problem import Problem
from markov_cot.data.prompts import Prompts
from markov_cot.data.synthetic import arithmetic
from markov_cot.models.loading import load_tokenizer
from markov_cot.models.source import resolve_source

NANO = "nano"
COPIED = (".json", ".safetensors", ".jinja", ".txt", ".model")
MARKER = -1
"""Stands for the CoT where a context is taken apart; no token has this id."""
MODELS = f"{NANO}, {', '.join(random_llama.SIZES)}, or the folder of a real model"
TERMS = (4, 4)
ATTEMPTS = 200
WORDS = ("and", "then", "also", "with", "all", "of", "them", "on", "a", "b", "x", "it", "is", "so", ".", "?")


def write_model(model: str, folder: Path, dtype: torch.dtype = torch.float32, device: str = "cpu") -> None:
    """Makes a random Llama, or copies nano or a real model's folder."""
    if model in random_llama.SIZES:
        random_llama.write(model, folder, dtype, device)
        return
    folder.mkdir(parents=True, exist_ok=True)
    for path in Path(resolve_source(model)).iterdir():
        if path.suffix in COPIED:
            shutil.copyfile(path, folder / path.name)
    random_llama.make_portable(folder)


def write_problems(model: Path, path: Path, prompt_tokens: int | None, count: int, seed: int = 0) -> None:
    """Writes `count` problems, no two alike, for the tokenizer in `model`."""
    prompts = Prompts(load_tokenizer(Model(name=str(model))))
    rng, rows = Random(seed), {}
    while len(rows) < count:
        problem = _problem(prompts, prompt_tokens, rng)
        rows[problem.question] = _row(prompts, problem)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows.values()), encoding="utf-8")


def _problem(prompts: Prompts, prompt_tokens: int | None, rng: Random) -> Problem:
    """A sum whose question context has exactly `prompt_tokens` tokens, if that is given."""
    for _ in range(ATTEMPTS):
        problem = arithmetic(rng, terms=TERMS)
        tokens = len(prompts.question_context(problem))
        while prompt_tokens and tokens < prompt_tokens:
            problem = replace(problem, question=f"{problem.question} {rng.choice(WORDS)}")
            tokens = len(prompts.question_context(problem))
        if tokens == (prompt_tokens or tokens):
            return problem
    return fail(f"--prompt {prompt_tokens}: no question of exactly that many tokens found; is it too short for a sum?")


def _row(prompts: Prompts, problem: Problem) -> dict[str, Any]:
    """A line of the file: our JSONL format, and the same as token ids."""
    prompt_ids = prompts.question_context(problem)
    prompt = prompts.tokenizer.decode(prompt_ids)
    if prompts.tokenizer(prompt, add_special_tokens=False).input_ids != prompt_ids:
        raise ValueError(f"the prompt of {problem.question!r} is not the same tokens when it is encoded from its text")
    context = prompts.answer_context(problem, [MARKER])
    cut = context.ids.index(MARKER)
    return {
        "question": problem.question,
        "answer": problem.answer,
        "prompt": prompt,
        "prompt_ids": prompt_ids,
        "redacted_ids": context.ids[:cut],
        "suffix_ids": context.ids[cut + 1 :],
        "answer_ids": context.answer_ids,
    }


def write(model: str, folder: Path, prompt_tokens: int | None, count: int, dtype: str, device: str = "cpu") -> None:
    """The whole folder. A model that is there already is kept."""
    if not (folder / "model" / "config.json").is_file():
        write_model(model, folder / "model", DTYPES[dtype], device)
    write_problems(folder / "model", folder / "problems.jsonl", prompt_tokens, count)


def known_model(text: str) -> str:
    """An option's model."""
    if text in (NANO, *random_llama.SIZES) or Path(text, "config.json").is_file():
        return text
    raise argparse.ArgumentTypeError(
        f"{text!r} is none of {', '.join((NANO, *random_llama.SIZES))} and no model's folder"
    )


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=known_model, default="56m", help=MODELS)
    parser.add_argument("--prompt", type=positive, help="tokens of every question context; as they come without it")
    parser.add_argument("--count", type=positive, default=400, help="problems; some go to validation and test")
    parser.add_argument("--dtype", choices=list(DTYPES), default="float32", help="random weights are stored in it")
    parser.add_argument("--out", type=Path, required=True)
    return parser.parse_args(argv)


def main() -> None:
    args = arguments()
    write(args.model, args.out, args.prompt, args.count, args.dtype)
    print(f"{args.model} and {args.count} problems in {args.out}")


if __name__ == "__main__":
    main()
