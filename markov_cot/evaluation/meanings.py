"""What each row of an evaluation's table is, in a few words. docs/evaluation.md says it in full."""

from __future__ import annotations

from markov_cot.evaluation.item_metrics import ACCURACY, F1, Key
from markov_cot.evaluation.preference import BOTH, CONSISTENCY, ECE, LOG_LOSS, MACRO_F1, MAJORITY, SWAPPED
from markov_cot.grading.kinds import Kind

EXTRACTORS: dict[tuple[str, str], str] = {
    ("numeric", "anchor"): "what follows the last answer label, else the last number",
    ("numeric", "simple"): "first integer after the last =, as in earlier code",
    ("numeric", "strict-match"): "only what follows ####, as in lm-evaluation-harness",
    ("numeric", "flexible-extract"): "last number-like text, as in lm-evaluation-harness",
    ("numeric", "boxed"): "only what stands in \\boxed{...}",
    ("numeric", "math-verify"): "what the math-verify library finds",
    ("choice", "word-boundary"): "a labelled letter, else the first lone one",
    ("choice", "anchor"): "a labelled letter, else the last lone one",
    ("choice", "choice-text"): "the one option whose text is written",
    ("choice", "legacy"): "first of A-E in any word, as in earlier code",
    ("choice", "legacy-boundary"): "first lone A-D, as in earlier code",
    ("text", "line"): "the first line, without label and quotes",
    ("text", "anchor"): "only what follows the last answer label",
    ("text", "exact"): "the whole response",
}
"""By kind of answer and extractor: what it reads."""

METRICS: dict[str, str] = {
    "acc,none": "the true option's text is the likeliest",
    "acc_norm,none": "the same, per character of the text",
    "acc,letter": "the true option's letter is the likeliest",
    "answer_logprob,none": "log-prob of the true answer, nats",
    "baseline_logprob,none": "the same after the base's own greedy CoT",
    "informativeness,none": "answer_logprob - baseline_logprob",
    "answer_in_cot,none": "share of CoTs that state an accepted answer",
    "copied,none": "share of a CoT's 4-grams found in passage or question",
    "repetition,none": "share of a CoT's 4-grams that it had before",
    "logprob_per_token,none": "log-prob of a token of the true text, nats",
    "perplexity,none": "exp of minus that, over all tokens",
    MAJORITY: "accuracy of always giving the commonest label",
    LOG_LOSS: "-ln of the true letter's share of probability",
    ECE: "mean distance of confidence from accuracy",
}

BY_EXTRACTOR: dict[str, str] = {
    F1: "share of words in common with the true answer (F1)",
    SWAPPED: "accuracy with the responses swapped",
    BOTH: "right in both orders",
    CONSISTENCY: "same verdict in both orders",
    MACRO_F1: "mean over the labels of their F1",
}


def meaning(kind: Kind, key: Key) -> str:
    """What a metric's row is; empty where its name has to do."""
    name, of = key.split(",")
    if name == ACCURACY:
        return EXTRACTORS.get((kind, of), "")
    if name in BY_EXTRACTOR:
        return BY_EXTRACTOR[name]
    if name.startswith("pass@"):
        return f"at least one of {name.removeprefix('pass@')} CoTs leads to the right answer"
    if name.startswith("maj@"):
        return f"the most frequent of {name.removeprefix('maj@')} answers is right"
    return METRICS.get(key, "")
