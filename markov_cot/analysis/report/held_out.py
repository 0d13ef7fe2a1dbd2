"""How good a run is on problems that it was not trained on: base against trained, and how that went over the steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from markov_cot.analysis.report.sources import Columns, Source
from markov_cot.evaluation.statistics import PairedComparison, compare_paired

ACCURACY, LOGPROB = "accuracy", "answer_logprob"
FINAL, SO_FAR = "final", "so far"
Row = Mapping[str, Any]


def measure_key(columns: Columns) -> str | None:
    """Return the logged key of the held-out score; None where there was no validation."""
    keys = [key for key in columns if key.startswith("eval/")]
    for measure in (ACCURACY, LOGPROB):
        if found := [key for key in keys if key.endswith(f"/{measure}")]:
            return found[0]
    return None


def result(source: Source) -> dict[str, Any] | None:
    """Return base against trained on held-out problems: the final score, else that of the last validation.

    `difference` is trained less base on the same problems, with a percentile bootstrap 95 % interval, and, of
    accuracies, McNemar's exact p; None where the answers were not kept. None without any validation.
    """
    summary = source.run.summary() if source.run else None
    if source.run is None:
        return None
    if summary:
        base, trained = summary["base"], summary["trained"]
        rows = source.run.final_answers("base"), source.run.final_answers("trained")
        about = {"stage": FINAL, "step": summary["step"], "best_step": summary["best_step"]}
    else:
        validations = source.run.validations()
        scores = _validated(source.columns)
        if len(scores) < 2:
            return None
        first, last = min(scores), max(scores)
        base, trained = scores[first], scores[last]
        rows = validations.get(first, []), validations.get(last, [])
        best = max(scores, key=lambda step: (_main(scores[step]), -step))
        about = {"stage": SO_FAR, "step": last, "best_step": best}
        n = len(rows[1]) or None
        base, trained = base | {"n": n}, trained | {"n": n}
    measure = LOGPROB if base[ACCURACY] is None else ACCURACY
    return {
        **about,
        "measure": measure,
        "n": base["n"],
        "base": base,
        "trained": trained,
        "difference": _difference(measure, *rows),
        "logprob_difference": _difference(LOGPROB, *rows),
    }


def _validated(columns: Columns) -> dict[int, dict[str, float | None]]:
    """Scores by the steps of validations, in the form of a run's summary."""
    key = measure_key(columns)
    if key is None:
        return {}
    stem = key.rpartition("/")[0]
    names = {ACCURACY: ACCURACY, "low": "accuracy_low", "high": "accuracy_high", LOGPROB: LOGPROB, "f1": "f1"}
    return {
        step: {name: columns.get(f"{stem}/{of}", {}).get(step) for name, of in names.items()} for step in columns[key]
    }


def _main(score: Mapping[str, float | None]) -> float:
    value = score[LOGPROB] if score[ACCURACY] is None else score[ACCURACY]
    return float("-inf") if value is None else value


def _difference(measure: str, base: Sequence[Row], trained: Sequence[Row]) -> dict[str, Any] | None:
    """Of answers to the same problems; None where they are not, or one has no value."""
    if not base or [row["problem"] for row in base] != [row["problem"] for row in trained]:
        return None
    key = "right" if measure == ACCURACY else LOGPROB
    before, after = [row[key] for row in base], [row[key] for row in trained]
    if None in before or None in after:
        return None
    found: PairedComparison = compare_paired(before, after)
    counts = {}
    if measure == ACCURACY:
        pairs = list(zip(before, after, strict=True))
        counts = {"fixed": pairs.count((False, True)), "broken": pairs.count((True, False))}
    return {**asdict(found), **counts}
