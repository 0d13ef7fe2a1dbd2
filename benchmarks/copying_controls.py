"""Controls for a gain that may be copying: what the reader makes of CoTs that are nothing but a piece of the passage.

Pieces are as long as the run's CoTs, L tokens: the passage's last and first L, a random window of it, and, where
answers are texts, L tokens around the answer in its sentence, which nobody can pick who does not know the answer.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

from run_reader import open_reader

from markov_cot.data.copying import copied
from markov_cot.data.problem import Problem
from markov_cot.evaluation.answering import Answer, answer_from_cots
from markov_cot.evaluation.validation import mark

BATCH = 16
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")
Ids = list[int]


def last(ids: Ids, length: int, _: Problem, __: Callable[[str], Ids]) -> Ids:
    """The passage's end."""
    return ids[-length:]


def first(ids: Ids, length: int, _: Problem, __: Callable[[str], Ids]) -> Ids:
    """Its beginning."""
    return ids[:length]


def window(ids: Ids, length: int, problem: Problem, _: Callable[[str], Ids]) -> Ids:
    """A random piece, the same one for the same problem."""
    start = Random(problem.id).randrange(max(1, len(ids) - length + 1))
    return ids[start : start + length]


def sentence(_: Ids, length: int, problem: Problem, encode: Callable[[str], Ids]) -> Ids:
    """The sentence that holds the answer, cut around the answer where it is too long."""
    holding = [each for each in _SENTENCE_END.split(problem.passage) if problem.answer in each] or [problem.passage]
    before, answer, after = holding[0].partition(problem.answer)
    lead, stated, rest = encode(before), encode(answer), encode(after)
    room = max(0, length - len(stated))
    kept = lead[-max(room // 2, room - len(rest)) :] if room else []
    return (kept + stated + rest)[:length]


CONTROLS: dict[str, Callable[[Ids, int, Problem, Callable[[str], Ids]], Ids]] = {
    "last": last,
    "first": first,
    "window": window,
    "sentence": sentence,
}
"""By name."""


def read_controls(run: Path, ids: Sequence[str], names: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """What a run's own reader makes of each control, a row a problem of the test split, by the problems' ids."""
    reader = open_reader(run)
    known, length = {problem.id: problem for problem in reader.test}, reader.config.rollout.length
    problems = [known[each] for each in ids]
    rows: dict[str, list[dict[str, Any]]] = {}
    for name in names:
        cots = [CONTROLS[name](reader.encode(p.passage), length, p, reader.encode) for p in problems]
        rows[name] = []
        for start in range(0, len(problems), BATCH):
            part = slice(start, start + BATCH)
            rows[name] += map(_row, answer_from_cots(reader.readers, problems[part], cots[part]))
    return rows


def _row(answer: Answer) -> dict[str, Any]:
    found = mark(answer)
    return {
        "problem": answer.problem.id,
        "cot": answer.cot,
        "right": found.right,
        "f1": found.f1,
        "logprob": found.logprob,
        "copied": copied(answer.cot, answer.problem),
    }
