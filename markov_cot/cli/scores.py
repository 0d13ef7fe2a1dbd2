"""A held-out score as a row of a table."""

from __future__ import annotations

from markov_cot.evaluation.validation import Score


def score_headings(score: Score) -> list[str]:
    """The headings over `score_cells`."""
    return ["accuracy", "95 % interval", *["F1"] * (score.f1 is not None), "answer log-prob (nats)"]


def score_cells(score: Score) -> list[str]:
    """A row of a table; continuations have no accuracy."""
    if score.accuracy is None:
        return ["-", "-", f"{score.answer_logprob:.3f}"]
    f1 = [] if score.f1 is None else [f"{score.f1:.3f}"]
    return [f"{score.accuracy:.3f}", f"{score.low:.3f} to {score.high:.3f}", *f1, f"{score.answer_logprob:.3f}"]
