"""How good a run is on problems that it was not trained on: base against trained, and how that went over the steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from markov_cot.analysis.report.sources import Columns, Source
from markov_cot.evaluation.run import Run
from markov_cot.evaluation.runs import MEASURES, held_out_key
from markov_cot.evaluation.statistics import compare_paired
from markov_cot.utils.errors import UserError
from markov_cot.utils.layout import SUMMARY

ACCURACY, LOGPROB = MEASURES
FINAL, SO_FAR = "final", "so far"
BASE, START = "base", "start"
"""What the trained actor is held against: before the end of a run that started from an adapter, that start."""
Row = Mapping[str, Any]


def result(source: Source) -> dict[str, Any] | None:
    """Return base against trained on held-out problems: the final score, else that of the last validation.

    `difference` is trained less base on the same problems, with a percentile bootstrap 95 % interval, and, of
    accuracies, McNemar's exact p; None where the answers were not kept. None without a validation before training and
    one after.
    """
    if source.run is None:
        return None
    if summary := _summary(source.run):
        base, trained = summary["base"], summary["trained"]
        rows = source.run.final_answers("base"), source.run.final_answers("trained")
        about = {"stage": FINAL, "step": summary["step"], "best_step": summary["best_step"]}
    else:
        validations = source.run.validations()
        scores = _validated(source.columns)
        last = max(scores, default=0)
        if 0 not in scores or last == 0:
            return None
        base, trained = scores[0], scores[last]
        rows = validations.get(0, []), validations.get(last, [])
        best = max(scores, key=lambda step: (_main(scores[step]), -step))
        about = {"stage": SO_FAR, "step": last, "best_step": best}
        n = len(rows[1]) or None
        base, trained = base | {"n": n}, trained | {"n": n}
    measure = LOGPROB if base[ACCURACY] is None else ACCURACY
    return {
        **about,
        "against": START if about["stage"] == SO_FAR and _starts_elsewhere(source) else BASE,
        "measure": measure,
        "n": base["n"],
        "base": base,
        "trained": trained,
        "difference": _difference(measure, *rows),
        "logprob_difference": _difference(LOGPROB, *rows),
    }


def _starts_elsewhere(source: Source) -> bool:
    """Whether the actor before training was not what the final score calls the base."""
    return source.setting("lora.init") is not None and source.setting("lora.critic") == BASE


def _summary(run: Run) -> Mapping[str, Any] | None:
    """The run's final scores. Raises `UserError` for a file that does not hold them."""
    try:
        found = run.summary()
        is_whole = found is None or (
            {"base", "trained", "step", "best_step"} <= found.keys()
            and all({"n", ACCURACY, "low", "high", LOGPROB, "f1"} <= found[side].keys() for side in ("base", "trained"))
        )
    except (ValueError, AttributeError, RecursionError):
        is_whole = False
    if not is_whole:
        raise UserError(
            f"{run.folder / SUMMARY}: does not hold the final scores of a run; take it from a backup, or remove it to "
            "report on the last validation"
        )
    return found


def _validated(columns: Columns) -> dict[int, dict[str, float | None]]:
    """Scores by the steps of validations, in the form of a run's summary."""
    key = held_out_key(columns)
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
    found = asdict(compare_paired(before, after))
    if measure != ACCURACY:  # McNemar's test is of right and wrong, even where all log-probs happen to be 0
        return found | {"p_value": None}
    pairs = list(zip(before, after, strict=True))
    return found | {"fixed": pairs.count((False, True)), "broken": pairs.count((True, False))}
