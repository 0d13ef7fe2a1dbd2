"""The one record every dataset is turned into."""

from __future__ import annotations

from dataclasses import dataclass

from markov_cot.grading.kinds import Kind

Pair = tuple[int, int, int, int]
"""Start and end of a first text, start and end of a second."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One question with its true answer.

    `passage`, `question` and `choices` are what the actor reads and the reader must not see.
    """

    id: str
    """Stable name within the dataset, for logs and sample files."""
    question: str
    """The question, without its choices."""
    answer: str
    """What the reader should write: a number, a choice's letter, a text, or the
    continuation."""
    kind: Kind
    choices: tuple[str, ...] = ()
    """Texts of the options in the order of `LETTERS`; empty unless `kind` is "choice"."""
    passage: str = ""
    """Text that comes before the question; for continuations, the context to be continued."""
    subject: str = ""
    """Sub-score the problem counts towards (MMLU's)."""
    rationale: str = ""
    """A worked solution where the data has one, or of a comparison its verdict: what `sft` teaches. Neither actor nor
    reader is ever shown it."""
    solution: str = ""
    """The same with its answer, word for word as published, where it differs. Shown as a worked example alone."""
    alternatives: tuple[str, ...] = ()
    """Other accepted answers; empty unless `kind` is "text"."""
    group: str = ""
    """Problems of one group never land in different splits (an article's)."""
    pairs: tuple[Pair, ...] = ()
    """Of a comparison: where in `passage` the two responses are, turn by turn; see `data.comparison`."""

    @property
    def accepted(self) -> tuple[str, ...]:
        """All accepted answers, `answer` first."""
        return (self.answer, *self.alternatives)
