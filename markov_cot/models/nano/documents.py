"""The documents the bundled base model is pre-trained on: question, reasoning of mixed quality, answer.

The answer is always the true one. What varies is how good the reasoning is, so the base learns to read an answer off
good reasoning, to doubt bad reasoning, and to write good reasoning only some of the time: there is something left for
reinforcement learning to improve. Most documents of the early part of pre-training reason well, which teaches the
skills; the later part has the final mixture, which teaches how often to use them.
"""

from __future__ import annotations

import re
from random import Random
from typing import NamedTuple

from markov_cot.data.problem import Problem
from markov_cot.data.synthetic import arithmetic, choices, split_of, words
from markov_cot.data.templates import PLAIN_PREFIX, PLAIN_QUESTION, REDACTED, SUFFIXES, question_text
from markov_cot.grading.kinds import LABELS

FAMILIES = {"arithmetic": 0.56, "words": 0.24, "choices": 0.20}
QUALITIES = {"right": 0.29, "slip": 0.04, "guess": 0.43, "irrelevant": 0.24}
EARLY_QUALITIES = {"right": 0.84, "slip": 0.04, "guess": 0.08, "irrelevant": 0.04}
REDACTED_SHARE = 0.5
CUT_SHARE = 0.15
"""Share of documents whose reasoning may be cut in the middle of its steps."""

FILLERS = (
    "That is all.", "This is the end of it.", "We are done.", "Now we can stop.", "It was not hard.", "It all adds up.",
    "Each step was small.", "The work is finished.", "That should do.", "Nothing else is needed.", "And that is it.",
    "The rest is easy.",
)  # fmt: skip
ASIDES = (
    "The sky is blue today.", "A cat sat near the door.", "Rain fell on the old roof.", "My tea is still warm.",
    "The train was late again.", "Birds sing in the morning.",
    "We like to walk by the river.", "The lamp is by the bed.",
    "Green leaves turn red.", "Someone left the gate open.", "The market closes early.", "Snow is cold and white.",
)  # fmt: skip


class Document(NamedTuple):
    """One text in three parts; the loss covers the last two."""

    prompt: str
    reasoning: str
    answer: str


def draw_problem(rng: Random) -> Problem:
    """A training-split problem of one of the three families."""
    family = _weighted(rng, FAMILIES)
    while True:
        if family == "arithmetic":
            problem = arithmetic(rng, terms=(2, 6))
        else:
            problem = words(rng) if family == "words" else choices(rng)
        if split_of(problem) == "train":
            return problem


def draw_document(rng: Random, qualities: dict[str, float] = QUALITIES) -> Document:
    """A random document: redacted or not, of one quality, with its reasoning filled up and cut at a random length."""
    problem = draw_problem(rng)
    quality = _weighted(rng, qualities)
    shown = REDACTED if rng.random() < REDACTED_SHARE else question_text(problem)
    reasoning = fill(rng, reason(rng, problem, quality), ASIDES if quality == "irrelevant" else FILLERS)
    return Document(
        PLAIN_QUESTION.format(problem=shown) + PLAIN_PREFIX,
        reasoning,
        f"{SUFFIXES[problem.kind]} {problem.answer}\n",
    )


def reason(rng: Random, problem: Problem, quality: str) -> str:
    """Reasoning of the named quality, starting with a space."""
    if quality == "right":
        return " " + problem.rationale
    if quality == "slip":
        return " " + _slip(rng, problem)
    if quality == "guess":
        return f" It is {_guess(rng, problem)}."
    return " " + " ".join(rng.sample(ASIDES, rng.randint(1, 3)))


def fill(rng: Random, reasoning: str, talk: tuple[str, ...]) -> str:
    """Reasoning followed by small talk, cut at a random character; seldom before its conclusion."""
    mean = 45 if rng.random() < 0.98 else 600
    target = int(len(reasoning) + rng.expovariate(1 / mean))
    if rng.random() < CUT_SHARE:
        target = rng.randint(2, max(2, len(reasoning)))
    text = reasoning
    while len(text) < target:
        text += " " + rng.choice(talk)
    return text[:target]


def _weighted(rng: Random, weights: dict[str, float]) -> str:
    return rng.choices(list(weights), list(weights.values()))[0]


def _slip(rng: Random, problem: Problem) -> str:
    """The worked solution with one wrong result, carried through the later steps."""
    steps = re.findall(r"(\d+)([+-]\d+)=", problem.rationale)
    if not steps:
        return f"{problem.rationale.split(chr(10))[0]}\nSo {_guess(rng, problem)}."
    wrong = rng.randrange(len(steps))
    total, lines = int(steps[0][0]), []
    for i, (_, term) in enumerate(steps):
        result = total + int(term)
        if i == wrong:
            result = max(0, result + rng.choice((-10, -2, -1, 1, 2, 10)))
        lines.append(f"{total}{term}={result}")
        total = result
    conclusion = str(total) if problem.kind == "numeric" else _guess(rng, problem)
    return "\n".join([*lines, f"So {conclusion}."])


def _guess(rng: Random, problem: Problem) -> str:
    if problem.kind == "choice":
        return rng.choice(LABELS[: len(problem.choices)])
    return str(max(0, int(problem.answer) + round(rng.gauss(0, 15))))
