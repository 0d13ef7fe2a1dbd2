"""The CoTs that a report shows: what base and trained actor wrote about the same problems, and how that changed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from markov_cot.analysis.report.sources import Source

LONGEST = 2_000
"""Characters of one text that are shown."""
LONGEST_QUESTION = 600
EXAMPLES = 2
"""Right ones, and wrong ones, at each key step."""
Row = Mapping[str, Any]


def cut(text: str, longest: int) -> tuple[str, int]:
    """Return a text's beginning, and how many characters are left out."""
    return text[:longest], max(0, len(text) - longest)


def browsed(source: Source, most: int) -> list[dict[str, Any]]:
    """Return up to `most` CoTs: base beside trained at the end first, then of validations, then of training.

    Where not all fit, every k-th of the steps is there, the last one always.
    """
    if source.run is None:
        return []
    base = {row["problem"]: row for row in source.run.final_answers("base")}
    shown = [_shown("final", None, row, base.get(row["problem"])) for row in source.run.final_answers("trained")]
    shown = shown[:most]
    shown += _of_steps("validation", _validations(source), most - len(shown))
    shown += _of_steps("training", _rollouts(source), most - len(shown))
    return shown


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
            found += [{"label": label, **_shown("validation", at, row, None)} for row in chosen]
        elif sampled is not None:
            found += [{"label": label, **_shown("training", sampled, row, None)} for row in samples[sampled][:EXAMPLES]]
    return found


def texts(source: Source) -> list[dict[str, Any]]:
    """Return how long CoTs on held-out problems are, and how much they repeat: at the end, else of each validation."""
    if source.run is None:
        return []
    final = {policy: source.run.final_answers(policy) for policy in ("base", "trained")}
    if final["trained"]:
        return [_measured(policy, None, rows) for policy, rows in final.items()]
    validations = _validations(source)
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
        "states_answer": sum(_states_answer(row) for row in rows) / n,
    }


def _states_answer(row: Row) -> bool:
    accepted = [str(each) for each in row.get("answers") or [row["answer"]]]
    return any(re.search(rf"(?<!\w){re.escape(each)}(?!\w)", str(row["cot"]), re.IGNORECASE) for each in accepted)


def _shown(kind: str, step: int | None, row: Row, base: Row | None) -> dict[str, Any]:
    """One CoT as the page has it."""
    question = "\n\n".join(str(row[key]) for key in ("passage", "question") if row.get(key))
    cot, left_out = cut(str(row["cot"]), LONGEST)
    return {
        "kind": kind,
        "step": step,
        "problem": row.get("problem"),
        "question": cut(question, LONGEST_QUESTION)[0],
        "choices": [cut(str(choice), LONGEST_QUESTION)[0] for choice in row.get("choices", ())],
        "answer": cut(str(row["answer"]), LONGEST_QUESTION)[0],
        "cot": cot,
        "left_out": left_out,
        "reader_answer": cut(row["reader_answer"], LONGEST_QUESTION)[0] if row.get("reader_answer") else None,
        "predicted": cut(row["predicted"], LONGEST_QUESTION)[0] if row.get("predicted") else None,
        "right": row.get("right"),
        "answer_logprob": row.get("answer_logprob"),
        "reward": row.get("reward"),
        "advantage": row.get("advantage"),
        "base": None
        if base is None
        else {
            "cot": cut(str(base["cot"]), LONGEST)[0],
            "predicted": cut(base["predicted"], LONGEST_QUESTION)[0] if base.get("predicted") else None,
            "right": base.get("right"),
            "answer_logprob": base.get("answer_logprob"),
        },
    }


def _of_steps(kind: str, by_step: Mapping[int, Sequence[Row]], most: int) -> list[dict[str, Any]]:
    """As many whole steps as fit, evenly spaced; of a single one that does not fit, its beginning."""
    steps = sorted(by_step)
    if most <= 0 or not steps:
        return []
    size = max(len(by_step[step]) for step in steps)
    count = max(1, min(len(steps), most // max(1, size)))
    chosen = sorted({steps[round((i + 1) * (len(steps) - 1) / count)] for i in range(count)})
    return [_shown(kind, step, row, None) for step in chosen for row in by_step[step]][:most]


def _validations(source: Source) -> dict[int, list[dict[str, Any]]]:
    return source.run.validations() if source.run else {}


def _rollouts(source: Source) -> dict[int, list[dict[str, Any]]]:
    assert source.run
    found: dict[int, list[dict[str, Any]]] = {}
    for row in source.run.rollouts():
        found.setdefault(row["step"], []).append(row)
    return found


def _samples(source: Source) -> dict[int, list[dict[str, Any]]]:
    found: dict[int, list[dict[str, Any]]] = {}
    for row in source.run.samples() if source.run else []:
        if {"cot", "answer", "question"} <= row.keys():
            found.setdefault(int(row["step"]), []).append(row)
    return found


def _nearest(steps: Iterable[int], wanted: int) -> int | None:
    return max((step for step in steps if step <= wanted), default=min(steps, default=None))
