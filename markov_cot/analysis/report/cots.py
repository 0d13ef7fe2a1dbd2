"""The CoTs that a report shows: what base and trained actor wrote about the same problems, and how that changed."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from markov_cot.analysis.report.sources import Source
from markov_cot.data.copying import copied
from markov_cot.data.problem import Problem
from markov_cot.grading.kinds import Kind
from markov_cot.tracking.metrics import states_answer
from markov_cot.tracking.step_files import kept_steps, read_step, rollouts_folder, validation_folder

LONGEST, SHORTEST = 2_000, 32
"""Characters of one CoT that are shown: at most, and where there are so many that a page would grow too large."""
OF_A_COT = 0.3
"""Characters of a question or an answer, as a share of a CoT's."""
PAGE = 8_000_000
"""Bytes of a page that CoTs to browse may take up, about."""
MARKUP = 1_200
"""Bytes around each."""
EXAMPLES = 2
"""Right ones, and wrong ones, at each key step."""
Row = Mapping[str, Any]
Picked = tuple[str, int | None, Row]
"""What a CoT is of ("final", "validation" or "training"), its step, and its row."""


def cut(text: str, longest: int) -> tuple[str, int]:
    """Return a text's beginning, and how many characters are left out."""
    return text[:longest], max(0, len(text) - longest)


def browsed(source: Source, most: int, page: int = PAGE) -> list[dict[str, Any]]:
    """Return up to `most` CoTs: base beside trained at the end first, then of validations, then of training.

    Where not all fit, every k-th of the steps is there, the last one always. Texts are cut so short that together they
    take up no more than `page` bytes.
    """
    if source.run is None:
        return []
    base = {row["problem"]: row for row in source.run.final_answers("base")}
    found: list[Picked] = [("final", None, row) for row in source.run.final_answers("trained")]
    found = found[:most]
    for kind, folder in (("validation", validation_folder), ("training", rollouts_folder)):
        found += _of_steps(kind, folder(source.run.folder), most - len(found))
    longest = LONGEST
    while True:
        shown = [
            _shown(kind, step, row, base.get(row["problem"]) if kind == "final" else None, longest)
            for kind, step, row in found
        ]
        if longest <= SHORTEST or sum(map(_size, shown)) <= page:
            return shown
        longest //= 2


def _size(shown: Mapping[str, Any]) -> int:
    """Bytes of a CoT on the page, at most: what is not ASCII counts as an escape."""
    return MARKUP + len(html.escape(json.dumps(shown)))


def examples(source: Source, steps: Mapping[str, int]) -> list[dict[str, Any]]:
    """Return a few right and wrong ones at each of these steps, from the nearest validation not after it.

    Without answers that were kept they are sample CoTs of training, of which nobody knows whether they are right.
    """
    if source.run is None:
        return []
    validations, found = _validations(source), []
    samples = _samples(source)
    for label, step in steps.items():
        at, sampled = _nearest(validations, step), _nearest(samples, step)
        if at is not None:
            rows = validations[at]
            wanted = (True, False) if rows and rows[0].get("right") is not None else (None,)
            chosen = [row for right in wanted for row in [r for r in rows if r.get("right") is right][:EXAMPLES]]
            kind, step_of = "validation", at
        elif sampled is not None:
            kind, step_of, chosen = "training", sampled, samples[sampled][:EXAMPLES]
        else:
            continue
        found += [{"label": label, **_shown(kind, step_of, row, None, LONGEST)} for row in chosen]
    return found


def texts(source: Source) -> list[dict[str, Any]]:
    """Return how long CoTs on held-out problems are, and how much they repeat: at the end, else of each validation."""
    if source.run is None:
        return []
    final = {policy: source.run.final_answers(policy) for policy in ("base", "trained")}
    if final["trained"]:
        return [_measured(policy, None, rows) for policy, rows in final.items() if rows]
    validations = {step: rows for step, rows in _validations(source).items() if rows}
    return [
        _measured("actor", step, validations[step])
        for step in sorted({*list(validations)[:1], *list(validations)[-1:]})
    ]


def _measured(policy: str, step: int | None, rows: Sequence[Row]) -> dict[str, Any]:
    words = [str(row["cot"]).split() for row in rows]
    n = len(rows)
    return {
        "policy": policy,
        "step": step,
        "n": n,
        "characters": sum(len(str(row["cot"])) for row in rows) / n,
        "words": sum(map(len, words)) / n,
        "repeated": sum(1 - len(set(each)) / len(each) for each in words if each) / n,
        "states_answer": None
        if rows[0].get("right") is None
        else sum(states_answer(str(row["cot"]), _problem(row)) for row in rows) / n,
        "copied": sum(copied(str(row["cot"]), _problem(row)) for row in rows) / n,
    }


def _problem(row: Row) -> Problem:
    """What was asked, as far as the measures of a CoT's text need it."""
    first, *others = row.get("answers") or [row["answer"]]
    kind: Kind = "text" if row.get("answers") else "numeric"
    question, passage = (str(row.get(key, "")) for key in ("question", "passage"))
    return Problem("", question, first, kind, passage=passage, alternatives=tuple(others))


def _shown(kind: str, step: int | None, row: Row, base: Row | None, longest: int) -> dict[str, Any]:
    """One CoT as the page has it."""
    brief = int(OF_A_COT * longest)
    cot, left_out = cut(str(row["cot"]), longest)
    return {
        "kind": kind,
        "step": step,
        "problem": row.get("problem"),
        "passage": _brief(row.get("passage"), brief),
        "question": _brief(row.get("question"), brief),
        "choices": [_brief(choice, brief) for choice in row.get("choices", ())],
        "answer": _brief(row["answer"], brief),
        "cot": cot,
        "left_out": left_out,
        "reader_answer": _brief(row.get("reader_answer"), brief),
        "predicted": _brief(row.get("predicted"), brief),
        "right": row.get("right"),
        "answer_logprob": row.get("answer_logprob"),
        "reward": row.get("reward"),
        "advantage": row.get("advantage"),
        "base": None if base is None else _base(base, longest, brief),
    }


def _base(row: Row, longest: int, brief: int) -> dict[str, Any]:
    cot, left_out = cut(str(row["cot"]), longest)
    return {
        "cot": cot,
        "left_out": left_out,
        "predicted": _brief(row.get("predicted"), brief),
        "right": row.get("right"),
        "answer_logprob": row.get("answer_logprob"),
    }


def _brief(text: Any, longest: int) -> str | None:
    """A text's beginning; None for none."""
    if text is None or text == "":
        return None
    beginning, left_out = cut(str(text), longest)
    return f"{beginning}…" if left_out else beginning


def _of_steps(kind: str, folder: Path, most: int) -> list[Picked]:
    """As many whole steps as fit, evenly spaced from the first to the last; of a single one, its beginning.

    Only these are read: all of a run's rollouts would not fit into memory.
    """
    steps = kept_steps(folder)
    if most <= 0 or not steps:
        return []
    last = len(steps) - 1
    size = len(read_step(folder, steps[last]))
    count = max(1, min(len(steps), most // max(1, size)))
    chosen = [steps[i * last // (count - 1)] for i in range(count)] if count > 1 else [steps[last]]
    rows: list[Picked] = [(kind, step, row) for step in chosen for row in read_step(folder, step)]
    return rows[:most]


def _validations(source: Source) -> dict[int, list[dict[str, Any]]]:
    return source.run.validations() if source.run else {}


def _samples(source: Source) -> dict[int, list[dict[str, Any]]]:
    found: dict[int, list[dict[str, Any]]] = {}
    for row in source.run.samples() if source.run else []:
        if {"cot", "answer", "question"} <= row.keys():
            found.setdefault(int(row["step"]), []).append(row)
    return found


def _nearest(steps: Iterable[int], wanted: int) -> int | None:
    return max((step for step in steps if step <= wanted), default=min(steps, default=None))
