"""ARC: school science questions with three to five choices (Clark et al. 2018), challenge or easy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from markov_cot.data.dataset import Dataset, RowContext, SplitFiles, one, split_files
from markov_cot.data.fields import RowError, as_object, choice_letter, choice_texts, optional_text, text, texts
from markov_cot.data.hub import Hub
from markov_cot.data.problem import Problem
from markov_cot.grading.kinds import LABELS

_DIGITS = "12345"


def from_original(row: Any, place: RowContext) -> Problem:
    """`question` holds the `stem` and a list of choices, each with `label` and `text`."""
    row = as_object(row)
    question = as_object(row.get("question"))
    choices = [as_object(choice) for choice in texts(question, "choices")]
    labels = [choice.get("label") for choice in choices]
    return _problem(row, place, text(question, "stem"), labels, [choice.get("text") for choice in choices])


def from_hub(row: Any, place: RowContext) -> Problem:
    """`choices` holds a list of `label` and a list of `text`."""
    row = as_object(row)
    choices = as_object(row.get("choices"))
    return _problem(row, place, text(row, "question"), texts(choices, "label"), texts(choices, "text"))


def _problem(row: Any, place: RowContext, question: str, labels: list[Any], options: list[Any]) -> Problem:
    choices = choice_texts(options, "choices")
    if labels not in (list(LABELS[: len(choices)]), list(_DIGITS[: len(choices)])):
        raise RowError(f"choices: labels are {', '.join(map(str, labels))}; expected A, B, C ... or 1, 2, 3 ...")
    return Problem(
        id=optional_text(row, "id") or place.id,
        question=question,
        answer=choice_letter(text(row, "answerKey"), labels, "answerKey"),
        kind="choice",
        choices=choices,
    )


def _files(folder: Path, subsets: tuple[str, ...]) -> list[SplitFiles]:
    stem = f"ARC-{subsets[0].capitalize()}"
    # The published archive has a folder for each set.
    return split_files(
        folder,
        ("Train", "train", (f"{stem}-Train.jsonl", f"{stem}/{stem}-Train.jsonl")),
        ("Dev", "validation", (f"{stem}-Dev.jsonl", f"{stem}/{stem}-Dev.jsonl")),
        ("Test", "test", (f"{stem}-Test.jsonl", f"{stem}/{stem}-Test.jsonl")),
    )


ARC = Dataset(
    name="arc",
    kind="choice",
    folder="arc",
    files=_files,
    hub=lambda subsets: Hub(
        ("allenai/ai2_arc",),
        f"ARC-{subsets[0].capitalize()}",
        {"train": "train", "validation": "validation", "test": "test"},
    ),
    original=one(from_original),
    hub_form=one(from_hub),
    subsets=("challenge", "easy"),
)
