from __future__ import annotations

import pytest

from markov_cot.evaluation.reader_check import ReaderCheck
from markov_cot.evaluation.validation import Score


def score(accuracy: float | None, logprob: float = -1.0) -> Score:
    return Score(64, accuracy, 0.0, 1.0, logprob)


@pytest.mark.parametrize(
    ("ceiling", "floor", "expected"),
    [
        (score(0.9), score(0.1), []),
        (score(0.49), score(0.1), ["the reader gives a stated answer back in 49% of 64 problems (reader/ceiling)"]),
        (score(0.9), score(0.85), ["the reader does about as well with an empty CoT as with a stated answer (90% and"]),
        (score(0.1), score(0.05), ["the reader gives a stated answer back in 10%"]),
        # Of continuations there are log-probs alone.
        (score(None, -1.0), score(None, -3.0), []),
        (score(None, -2.95), score(None, -3.0), ["the reader does about as well with an empty CoT as with a stated"]),
    ],
)
def test_what_is_warned_of(ceiling: Score, floor: Score, expected: list[str]) -> None:
    lines = ReaderCheck(ceiling, floor).warnings()
    assert len(lines) == len(expected)
    for line, start in zip(lines, expected, strict=True):
        assert line.startswith(start) and "change prompt.answer" in line and "\n" not in line


def test_what_is_logged() -> None:
    assert ReaderCheck(score(0.9, -1), score(0.2, -4)).metrics() == {
        "reader/ceiling": 0.9,
        "reader/floor": 0.2,
        "reader/ceiling_logprob": -1,
        "reader/floor_logprob": -4,
    }
    assert ReaderCheck(score(None, -1), score(None, -4)).metrics() == {
        "reader/ceiling_logprob": -1,
        "reader/floor_logprob": -4,
    }
