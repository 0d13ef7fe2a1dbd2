"""What is kept of an item that was asked directly, its scores, and its rows in a samples file.

Kept is what the model gave, so that extractors may change.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from markov_cot.evaluation.direct_tasks import BY_LETTER, ENDINGS, GENERATE, LOSS, Asked
from markov_cot.evaluation.item_log import Layout
from markov_cot.evaluation.records import Likelihood
from markov_cot.evaluation.sample_rows import INVALID
from markov_cot.grading.extractors import get_extractor, grade
from markov_cot.grading.kinds import LETTERS

FILTERS = ("strict-match", "flexible-extract")
"""Rules that read a number out of a solution."""
PRIMARY = {
    ENDINGS: "acc_norm,none",
    BY_LETTER: "acc,none",
    GENERATE: "exact_match,flexible-extract",
    LOSS: "nats_per_token,none",
}
"""The key of the metric that decides about a task of each form."""
HIGHER_IS_BETTER = {"acc": True, "acc_norm": True, "exact_match": True, "nats_per_token": False}


@dataclass(frozen=True, slots=True)
class DirectRecord:
    """What a model gave for one item."""

    index: int
    likelihoods: tuple[Likelihood, ...] = ()
    """Of each continuation."""
    tokens: tuple[int, ...] = ()
    """How many each continuation has."""
    text: str = ""
    """What it wrote."""
    cut: int = 0
    """Tokens of the prompt's beginning that did not fit into its context."""


def item_scores(form: str, asked: Asked, record: DirectRecord) -> dict[str, float]:
    """Return an item's score by metric.

    acc: whether the right choice has the highest log-likelihood; acc_norm: after division by its length in characters,
    without the space before it; exact_match: as the extractors of these names have it; nats_per_token: the mean loss.
    """
    if form == GENERATE:
        return {f"exact_match,{name}": float(_graded(name, asked, record)[1]) for name in FILTERS}
    logprobs = [each.logprob for each in record.likelihoods]
    if form == LOSS:
        return {"nats_per_token,none": -logprobs[0] / record.tokens[0]}
    right = LETTERS.index(asked.problem.answer)
    scores = {"acc,none": float(_first_highest(logprobs) == right)}
    if form == ENDINGS:
        per_character = [p / len(text) for p, text in zip(logprobs, asked.problem.choices, strict=True)]
        scores["acc_norm,none"] = float(_first_highest(per_character) == right)
    return scores


def sample_rows(form: str, asked: Asked, record: DirectRecord) -> Iterator[dict[str, Any]]:
    """Yield an item's rows in lm-evaluation-harness's layout: one for each filter."""
    scores = item_scores(form, asked, record)
    for name in dict.fromkeys(key.split(",")[1] for key in scores):
        metrics = {key.split(",")[0]: value for key, value in scores.items() if key.endswith(f",{name}")}
        responses: dict[str, Any] = {"resps": [[record.text]], "filtered_resps": [record.text]}
        if form == GENERATE:
            responses["filtered_resps"] = [_graded(name, asked, record)[0] or INVALID]
        else:
            pairs = [[each.logprob, each.greedy] for each in record.likelihoods]
            responses = {"resps": [[pair] for pair in pairs], "filtered_resps": pairs, "tokens": list(record.tokens)}
        yield {
            "doc_id": asked.index,
            "doc": _document(asked),
            "target": _target(form, asked),
            **responses,
            "filter": name,
            "metrics": list(metrics),
            **metrics,
            "prompt_hash": hashlib.sha256(asked.context.encode()).hexdigest(),
            **({} if asked.group is None else {"group": asked.group}),
            **({"cut": record.cut} if record.cut else {}),
        }


def _document(asked: Asked) -> dict[str, Any]:
    problem = asked.problem
    seen = {"id": problem.id, "passage": problem.passage, "question": problem.question}
    return (
        {key: value for key, value in seen.items() if value}
        | {"choices": list(problem.choices)}
        | {"answer": problem.answer}
    )


def _target(form: str, asked: Asked) -> Any:
    return LETTERS.index(asked.problem.answer) if form in (ENDINGS, BY_LETTER) else asked.problem.answer


def _graded(name: str, asked: Asked, record: DirectRecord) -> tuple[str | None, bool]:
    return grade(get_extractor("numeric", name), record.text, asked.problem.answer)


def _first_highest(values: list[float]) -> int:
    """The first of equals, as numpy's argmax."""
    return max(range(len(values)), key=values.__getitem__)


def is_finite(record: DirectRecord) -> bool:
    """Return whether the model gave numbers."""
    return all(math.isfinite(each.logprob) for each in record.likelihoods)


def _from_json(row: Any) -> DirectRecord:
    likelihoods = tuple(Likelihood(float(each["logprob"]), bool(each["greedy"])) for each in row["likelihoods"])
    return DirectRecord(
        int(row["index"]), likelihoods, tuple(map(int, row["tokens"])), str(row["text"]), int(row["cut"])
    )


def _to_json(record: DirectRecord) -> Mapping[str, Any]:
    return asdict(record)


DIRECT: Layout[DirectRecord] = Layout(_to_json, _from_json)
