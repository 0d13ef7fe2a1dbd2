"""SVAMP: one-step word problems with distracting numbers (Patel et al. 2021). The story is in `Body`, and a problem
without its `Question` cannot be answered. Both forms have the same fields; the hub's answers may be text."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from markov_cot.data.dataset import Dataset, RowContext, SplitFiles, one, split_files
from markov_cot.data.fields import as_object, number, optional_text, text
from markov_cot.data.hub import Hub
from markov_cot.data.problem import Problem

_SENTENCE_END = re.compile(r"(?<=[.?!])\s+")


def from_row(row: Any, place: RowContext) -> Problem:
    """One story, its question and its number."""
    row = as_object(row)
    return Problem(
        id=optional_text(row, "ID") or place.id,
        question=join(text(row, "Body"), text(row, "Question")),
        answer=number(row, "Answer"),
        kind="numeric",
        rationale=optional_text(row, "Equation"),
    )


def join(body: str, question: str) -> str:
    """Story and question as running text. A third of the stories were cut off before the comma or full stop that
    belongs there: "If each pack costs 5 dollars" continues with ", how much ...", any other sentence ends."""
    if body[-1] in ".?!":
        return f"{body} {question}"
    if body[-1] == ",":
        return f"{body} {question[0].lower()}{question[1:]}"
    if _SENTENCE_END.split(body)[-1].startswith("If "):
        return f"{body}, {question[0].lower()}{question[1:]}"
    return f"{body}. {question}"


def _files(folder: Path, subsets: tuple[str, ...]) -> list[SplitFiles]:
    return split_files(folder, ("SVAMP", "train", ("SVAMP.json",)))


SVAMP = Dataset(
    name="svamp",
    kind="numeric",
    folder="svamp",
    files=_files,
    hub=lambda subsets: Hub(("ChilleD/SVAMP",), None, {"train": "train", "test": "test"}),
    original=one(from_row),
    hub_form=one(from_row),
)
