"""The best of the CoTs that a run has kept, as rows to learn: rejection sampling by reward."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Any

from markov_cot.evaluation.run import Run
from markov_cot.utils.errors import UserError

KEPT = ("question", "passage", "choices", "answer", "cot")


def best_rollouts(run: Run, top: int) -> list[dict[str, Any]]:
    """Return the `top` different CoTs of each question with the most reward, best first, of all steps kept.

    Rows have `question`, `passage`, `choices`, `answer` and `cot` as rollouts have them, with `reward` and `step`.
    Raises `UserError` for a run that has kept none.
    """
    by_question: dict[tuple[Any, ...], list[dict[str, Any]]] = defaultdict(list)
    for row in run.rollouts():
        if math.isfinite(row["reward"]) and row["cot"].strip():
            by_question[row["passage"], row["question"], tuple(row["choices"])].append(row)
    if not by_question:
        raise UserError(f"run {run.name}: has kept no rollouts to learn from; train with --set tracking.rollouts=1")
    found = []
    for rows in by_question.values():
        different = {row["cot"].strip(): row for row in sorted(rows, key=lambda row: row["reward"])}
        best = sorted(different.values(), key=lambda row: (-row["reward"], row["step"]))[:top]
        found += [{key: row[key] for key in (*KEPT, "reward", "step")} for row in best]
    return found
