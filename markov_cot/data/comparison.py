"""Comparisons of two responses to one prompt, as problems: which is better, A, B, or neither?

The two responses are shown in one order, and the answer names a place in it. `swapped` shows them in the other one.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from markov_cot.data.problem import Pair, Problem

FIRST, SECOND, TIE = "A", "B", "C"
"""Letters of the choices."""
QUESTION = "Which response is better?"
CHOICES = ("Response A is better", "Response B is better", "Neither response is better")
_IN_OTHER_ORDER = {FIRST: SECOND, SECOND: FIRST}
_SWAPPED = "-swapped"


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of a conversation that two models had with the same user."""

    prompt: str
    first: str
    second: str


def comparison(name: str, turns: Sequence[Turn], answer: str, *, has_tie: bool = True, subject: str = "") -> Problem:
    """Return the problem that asks which of two models' responses is better.

    The passage holds, turn by turn, the prompt and both responses under a heading each, and ends with a new line, so
    that a blank one parts it from the question. Rows whose prompts are the same but for case and white space are one
    group. The data have no reasoning; the rationale is the verdict in words.

    Args:
        answer: `FIRST`, `SECOND` or `TIE`.
        has_tie: whether a tie is among the choices.
    """
    text, pairs = "", []
    for number, turn in enumerate(turns, 1):
        of_turn = f", turn {number}" if len(turns) > 1 else ""
        text += f"{_gap(text)}Prompt{of_turn}:\n{turn.prompt}\n\nResponse A{of_turn}:\n"
        first = (len(text), len(text) + len(turn.first))
        text += f"{turn.first}\n\nResponse B{of_turn}:\n"
        pairs.append((*first, len(text), len(text) + len(turn.second)))
        text += turn.second
    return Problem(
        id=name,
        question=QUESTION,
        answer=answer,
        kind="choice",
        choices=CHOICES if has_tie else CHOICES[:-1],
        passage=f"{text}\n",
        subject=subject,
        rationale=_verdict(answer),
        group=prompt_group([turn.prompt for turn in turns]),
        pairs=tuple(pairs),
    )


def prompt_group(prompts: Sequence[str]) -> str:
    """Return 16 hex digits that are the same for prompts that differ in case and white space only.

    >>> prompt_group(["Add  2\\n"]) == prompt_group(["add 2"]) != prompt_group(["add", "2"])
    True
    """
    normalised = "\x1f".join(" ".join(prompt.lower().split()) for prompt in prompts)
    return hashlib.sha256(normalised.encode()).hexdigest()[:16]


def swapped(problem: Problem) -> Problem:
    """Return the same comparison with the responses in the other order and the answer turned with them.

    Swapping twice gives the first again, but for the id. Raises `ValueError` for a problem that compares nothing.
    """
    if not problem.pairs:
        raise ValueError(f"{problem.id}: compares nothing, so there is nothing to swap")
    old, text, end = problem.passage, "", 0
    pairs: list[Pair] = []
    for first, first_end, second, second_end in problem.pairs:
        text += old[end:first]
        start = len(text)
        text += old[second:second_end]
        moved = (start, len(text))
        text += old[first_end:second]
        start = len(text)
        text += old[first:first_end]
        pairs.append((*moved, start, len(text)))
        end = second_end
    answer = other_letter(problem.answer)
    return replace(
        problem,
        id=f"{problem.id}{_SWAPPED}",
        passage=text + old[end:],
        answer=answer,
        rationale=_verdict(answer),
        pairs=tuple(pairs),
    )


def with_swapped(problems: Iterable[Problem]) -> list[Problem]:
    """Return each comparison and, behind it, its swapped copy, which is of the same group."""
    return [each for problem in problems for each in (problem, swapped(problem))]


def other_letter(letter: str) -> str:
    """Return the letter of the same verdict on responses in the other order; a tie stays one."""
    return _IN_OTHER_ORDER.get(letter, letter)


def frequencies(problems: Iterable[Problem]) -> dict[str, float]:
    """Return the share of each answer, by letter."""
    counts = Counter(problem.answer for problem in problems)
    return {letter: count / counts.total() for letter, count in sorted(counts.items())}


def _verdict(answer: str) -> str:
    return f"{CHOICES[(FIRST, SECOND, TIE).index(answer)]}, so the answer is {answer}."


def _gap(text: str) -> str:
    return "\n\n" if text else ""
