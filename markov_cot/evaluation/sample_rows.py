"""samples_<dataset>.jsonl: one row for each item and filter, in lm-evaluation-harness's layout and with our columns.

A filter is an extractor's name, or "none" for what is read off likelihoods.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from markov_cot.data.problem import Problem
from markov_cot.evaluation import item_metrics as scoring
from markov_cot.evaluation.classification import probabilities
from markov_cot.evaluation.item_metrics import Key
from markov_cot.evaluation.preference import LOG_LOSS, OtherOrder
from markov_cot.evaluation.records import Item, Record
from markov_cot.grading.extractors import Extractor
from markov_cot.grading.kinds import LETTERS

INVALID = "[invalid]"
"""How lm-evaluation-harness writes a prediction that was not found."""


def sample_rows(
    items: Sequence[Item],
    records: Sequence[Record],
    extractors: Sequence[Extractor],
    scores: dict[Key, list[float]],
    other: OtherOrder | None = None,
) -> Iterator[dict[str, Any]]:
    """Rows in the order of the items. `scores` are those of `results.outcome`; NaN is written as null.

    A comparison's rows also have what came of it in the other order, in keys that end in "_swapped".
    """
    for i, (item, record) in enumerate(zip(items, records, strict=True)):
        of_item = {key: _finite(values[i]) for key, values in scores.items()}
        for extractor in extractors:
            graded = scoring.grade(item, record, extractor)
            yield {
                **_document(item),
                "target": item.problem.answer,
                "resps": [[sample.answer for sample in record.samples]],
                "filtered_resps": [_alone([INVALID if p is None else p for p in graded.predicted])],
                "filter": extractor.name,
                **_metrics(of_item, extractor.name),
                "predicted": list(graded.predicted),
                "correct": list(graded.correct),
                **(_swapped(other, i, extractor) if other else {}),
                **_shared(record, of_item),
            }
        if item.problem.kind == "choice":
            row = _likelihood_row(item.problem, record, of_item)
            chances = _chances(other, i, record, of_item) if other else {}
            yield {**_document(item), **row, **chances, **_shared(record, of_item)}
        if item.problem.kind == "continuation":
            resps = [[[sample.answer_logprob] for sample in record.samples]]
            row = {"target": item.problem.answer, "resps": resps, "filtered_resps": resps[0], "filter": "none"}
            metrics = {"logprob_per_token": of_item[scoring.PER_TOKEN], "metrics": ["logprob_per_token"]}
            yield {**_document(item), **row, **metrics, **_shared(record, of_item)}


def _document(item: Item) -> dict[str, Any]:
    problem = item.problem
    doc = {
        "id": problem.id,
        "passage": problem.passage,
        "question": problem.question,
        "choices": list(problem.choices),
        "answer": problem.answer,
        "answers": list(problem.accepted) if problem.kind == "text" else [],
        "subject": problem.subject,
    }
    return {"doc_id": item.index, "doc": {key: value for key, value in doc.items() if value}}


def _likelihood_row(problem: Problem, record: Record, of_item: dict[Key, float | None]) -> dict[str, Any]:
    """One response for each choice, as the harness has one request for each."""
    by_choice = zip(*(scoring.likelihood_pairs(sample.choices) for sample in record.samples), strict=True)
    resps = [[[_finite(logprob), greedy] for logprob, greedy in pairs] for pairs in by_choice]
    return {
        "target": LETTERS.index(problem.answer),
        "resps": resps,
        "filtered_resps": [_alone(each) for each in resps],
        "filter": "none",
        **_metrics(of_item, "none", ("acc", "acc_norm")),
        "acc_letter": of_item["acc,letter"],
        "letter_logprobs": [[_finite(each.logprob) for each in sample.letters] for sample in record.samples],
    }


def _swapped(other: OtherOrder, i: int, extractor: Extractor) -> dict[str, Any]:
    """An item's answers and CoTs where its responses are in the other order."""
    item, record = other.items[i], other.records[i]
    return {
        "target_swapped": item.problem.answer,
        "resps_swapped": [[sample.answer for sample in record.samples]],
        "predicted_swapped": list(scoring.grade(item, record, extractor).predicted),
        "cots_swapped": [sample.cot for sample in record.samples],
    }


def _chances(other: OtherOrder, i: int, record: Record, of_item: dict[Key, float | None]) -> dict[str, Any]:
    """The choices' probabilities in both orders, each by the letter it has there."""
    return {
        "log_loss": of_item[LOG_LOSS],
        "probabilities": _probabilities(record),
        "probabilities_swapped": _probabilities(other.records[i]),
    }


def _probabilities(record: Record) -> list[list[float | None]]:
    found = (probabilities([letter.logprob for letter in sample.letters]) for sample in record.samples)
    return [[_finite(each) for each in chances] for chances in found]


def _metrics(of_item: dict[Key, float | None], name: str, wanted: tuple[str, ...] = ()) -> dict[str, Any]:
    """Metrics whose filter is `name`, and the list of their names, as the harness has it."""
    found = {metric: value for key, value in of_item.items() for metric, of in [key.split(",")] if of == name}
    chosen = {metric: value for metric, value in found.items() if not wanted or metric in wanted}
    return {**chosen, "metrics": list(chosen)}


def _shared(record: Record, of_item: dict[Key, float | None]) -> dict[str, Any]:
    return {
        "cots": [sample.cot for sample in record.samples],
        "answer_logprobs": [_finite(sample.answer_logprob) for sample in record.samples],
        "baseline_logprob": _finite(record.baseline_logprob),
        "informativeness": of_item[scoring.INFORMATIVENESS],
        "repetitions": [sample.repetition for sample in record.samples],
    }


def _alone(values: list[Any]) -> Any:
    """A single response as itself, several as a list: as the harness's filters leave them."""
    return values[0] if len(values) == 1 else values


def _finite(value: float) -> float | None:
    return None if math.isnan(value) else value
