"""SQuAD: questions on paragraphs of Wikipedia that hold their answers (Rajpurkar et al. 2016), and XQuAD in its form.

An article's questions stay in one split. Questions of SQuAD 2.0 that have no answer are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from markov_cot.data.dataset import Dataset, RowContext, SplitFiles, find_file, split_files
from markov_cot.data.fields import as_object, field, optional_text, text, texts
from markov_cot.data.hub import Hub
from markov_cot.data.jsonl import accepted_texts
from markov_cot.data.problem import Problem
from markov_cot.data.splits import group_key

_LANGUAGES = ("en", "ar", "de", "el", "es", "hi", "ro", "ru", "th", "tr", "vi", "zh")


def from_article(row: Any, place: RowContext) -> Sequence[Problem]:
    """An article: `title` and `paragraphs`, each with its `context` and its `qas`."""
    article = as_object(row)
    title = optional_text(article, "title") or place.id
    return tuple(
        _problem(question, text(paragraph, "context"), title, [as_object(a).get("text") for a in answers])
        for paragraph in map(as_object, texts(article, "paragraphs"))
        for question in map(as_object, texts(paragraph, "qas"))
        if (answers := texts(question, "answers")) or not question.get("is_impossible")
    )


def from_hub(row: Any, place: RowContext) -> Sequence[Problem]:
    """A question with its `context`, `answers` as lists by field, and a `title` where the set has one."""
    question = as_object(row)
    answers = texts(as_object(field(question, "answers")), "text")
    context = text(question, "context")
    return (_problem(question, context, optional_text(question, "title"), answers),) if answers else ()


def _problem(row: Any, context: str, title: str, answers: Sequence[Any]) -> Problem:
    first, *others = accepted_texts(list(answers), "answers")
    return Problem(
        id=text(row, "id"),
        question=text(row, "question"),
        answer=first,
        kind="text",
        passage=context,
        alternatives=tuple(others),
        group=title,
    )


def _squad_files(folder: Path, subsets: tuple[str, ...]) -> list[SplitFiles]:
    found = split_files(
        folder,
        ("train", "train", ("train-v1.1.json", "train-v2.0.json")),
        ("dev", "validation", ("dev-v1.1.json", "dev-v2.0.json")),
    )
    return found or _xquad_files(folder, _LANGUAGES[:1])


def _xquad_files(folder: Path, subsets: tuple[str, ...]) -> list[SplitFiles]:
    path = find_file(folder, f"xquad.{subsets[0]}.json")
    return [SplitFiles(subsets[0], "validation", (path,))] if path else []


SQUAD = Dataset(
    name="squad",
    kind="text",
    folder="squad",
    files=_squad_files,
    hub=lambda subsets: Hub(("rajpurkar/squad",), "plain_text", {"train": "train", "validation": "validation"}),
    original=from_article,
    hub_form=from_hub,
    key=group_key,
    other_folders=("xquad",),
)
XQUAD = Dataset(
    name="xquad",
    kind="text",
    folder="xquad",
    files=_xquad_files,
    hub=lambda subsets: Hub(("google/xquad",), f"xquad.{subsets[0]}", {"validation": "validation"}),
    original=from_article,
    hub_form=from_hub,
    key=group_key,
    subsets=_LANGUAGES,
)
