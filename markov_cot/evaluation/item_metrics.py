"""Scores of items: from what a model produced to one number for each item and metric.

A metric's key is `name,filter`, as in lm-evaluation-harness; the filter is an extractor's name or "none".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markov_cot.data.copying import copied
from markov_cot.data.problem import Problem
from markov_cot.evaluation.records import Item, Likelihood, Record, Sample
from markov_cot.evaluation.statistics import majority, pass_at_k
from markov_cot.grading.extractors import Extractor, credit
from markov_cot.grading.extractors import grade as grade_response
from markov_cot.grading.kinds import LETTERS
from markov_cot.tracking.metrics import states_answer

Key = str
ACCURACY = "exact_match"
LOGPROB, BASELINE, INFORMATIVENESS = "answer_logprob,none", "baseline_logprob,none", "informativeness,none"
F1, ANSWER_IN_COT, COPIED = "f1", "answer_in_cot,none", "copied,none"
REPETITION, PER_TOKEN, PERPLEXITY = "repetition,none", "logprob_per_token,none", "perplexity,none"


@dataclass(frozen=True, slots=True)
class Graded:
    """What one extractor read out of an item's answers, one entry for each sample."""

    predicted: tuple[str | None, ...]
    """None is invalid."""
    correct: tuple[bool, ...]
    credits: tuple[float, ...] = ()
    """Partial credit (F1), where there is any."""


def grade(item: Item, record: Record, extractor: Extractor) -> Graded:
    """Applies an extractor and its grader to every answer of an item."""
    problem = item.problem
    accepted, choices = problem.accepted, problem.choices
    graded = [grade_response(extractor, sample.answer, accepted, choices) for sample in record.samples]
    credits = [credit(extractor, predicted, accepted) for predicted, _ in graded]
    return Graded(
        tuple(predicted for predicted, _ in graded),
        tuple(right for _, right in graded),
        tuple(each for each in credits if each is not None),
    )


def item_scores(
    items: Sequence[Item], records: Sequence[Record], extractors: Sequence[Extractor], reduction: str
) -> dict[Key, list[float]]:
    """Each metric's value for each item, NaN where the model gave NaN. The items are all of one kind.

    An item's value is the mean over its samples, but for pass@k and maj@k, which are of all of them.
    """
    kind = items[0].problem.kind
    scores: dict[Key, list[float]] = {}
    for extractor in extractors:
        scores |= _answer_scores(items, records, extractor)
    if kind == "choice":
        scores["acc,none"] = _per_sample(items, records, by_likelihood)
        scores["acc_norm,none"] = _per_sample(items, records, by_normalised_likelihood)
        scores["acc,letter"] = _per_sample(items, records, by_letter)
    if kind == "continuation":
        scores[PER_TOKEN] = [logprob_per_token(record, reduction) for record in records]
    scores[LOGPROB] = [_mean([s.answer_logprob for s in record.samples]) for record in records]
    scores[BASELINE] = [record.baseline_logprob for record in records]
    scores[INFORMATIVENESS] = [a - b for a, b in zip(scores[LOGPROB], scores[BASELINE], strict=True)]
    if kind != "continuation":
        scores[ANSWER_IN_COT] = _per_sample(items, records, lambda p, s: float(states_answer(s.cot, p)))
    scores[COPIED] = _per_sample(items, records, lambda p, s: copied(s.cot, p))
    scores[REPETITION] = [_mean([s.repetition for s in record.samples]) for record in records]
    return scores


def passes_reported(samples: int) -> list[int]:
    """The k of pass@k: powers of two and the number of samples; none for a single sample."""
    return sorted({2**i for i in range(samples.bit_length()) if 2**i <= samples} | {samples}) if samples > 1 else []


def majority_is_right(extractor: Extractor, graded: Graded) -> bool:
    """maj@k: whether the most frequent of the predictions is right; numbers vote by value, invalid ones not at all."""
    votes = [None if text is None else extractor.vote(text) for text in graded.predicted]
    winner = majority(votes)
    return winner is not None and graded.correct[votes.index(winner)]


def by_likelihood(problem: Problem, sample: Sample) -> float:
    """lm-evaluation-harness's acc: 1 if the true choice's text has the highest summed log-likelihood."""
    return _is_highest(problem, [choice.logprob for choice in sample.choices])


def by_normalised_likelihood(problem: Problem, sample: Sample) -> float:
    """lm-evaluation-harness's acc_norm: as acc, with each divided by its text's length in characters."""
    lengths = map(len, problem.choices)
    pairs = zip(sample.choices, lengths, strict=True)
    return _is_highest(problem, [choice.logprob / length for choice, length in pairs])


def by_letter(problem: Problem, sample: Sample) -> float:
    """1 if the true choice's letter has the highest log-likelihood; letters are what readers are asked for."""
    return _is_highest(problem, [letter.logprob for letter in sample.letters])


def logprob_per_token(record: Record, reduction: str) -> float:
    """Mean log-prob (nats) of a token of the true answer, over all samples."""
    mean = _mean([sample.answer_logprob for sample in record.samples])
    return mean if reduction == "mean" else mean / record.answer_tokens


def perplexity(records: Sequence[Record], reduction: str) -> float:
    """exp of minus the mean log-prob of all items' answer tokens, each token counting the same."""
    tokens = sum(record.answer_tokens for record in records)
    total = sum(logprob_per_token(record, reduction) * record.answer_tokens for record in records)
    return math.exp(-total / tokens)


def likelihood_pairs(likelihoods: Sequence[Likelihood]) -> list[tuple[float, bool]]:
    """As lm-evaluation-harness writes them."""
    return [(each.logprob, each.greedy) for each in likelihoods]


def _answer_scores(items: Sequence[Item], records: Sequence[Record], extractor: Extractor) -> dict[Key, list[float]]:
    graded = [grade(item, record, extractor) for item, record in zip(items, records, strict=True)]
    scores = {f"{ACCURACY},{extractor.name}": [_mean(each.correct) for each in graded]}
    if extractor.credit is not None:
        scores[f"{F1},{extractor.name}"] = [_mean(each.credits) for each in graded]
    samples = len(records[0].samples)
    for k in passes_reported(samples):
        scores[f"pass@{k},{extractor.name}"] = [pass_at_k(samples, sum(each.correct), k) for each in graded]
    if samples > 1:
        scores[f"maj@{samples},{extractor.name}"] = [float(majority_is_right(extractor, each)) for each in graded]
    return scores


def _per_sample(
    items: Sequence[Item], records: Sequence[Record], score: Callable[[Problem, Sample], float]
) -> list[float]:
    pairs = zip(items, records, strict=True)
    return [_mean([score(item.problem, sample) for sample in record.samples]) for item, record in pairs]


def _is_highest(problem: Problem, values: Sequence[float]) -> float:
    if any(math.isnan(value) for value in values):
        return math.nan
    # The first of equals, as numpy's argmax.
    return float(max(range(len(values)), key=values.__getitem__) == LETTERS.index(problem.answer))


def _mean(values: Sequence[int | float]) -> float:
    return sum(values) / len(values)
