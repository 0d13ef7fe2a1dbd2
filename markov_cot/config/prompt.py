"""Settings of the two contexts: templates as `str.format` reads them, one for all kinds of answers or one for each."""

from __future__ import annotations

from collections.abc import Iterable
from string import Formatter
from typing import Literal

from pydantic import model_validator

from markov_cot.config.base import AnswerKind, Group

COT = "cot"
PROBLEM_FIELDS = ("problem", "passage", "question", "choices")
"""What a template may show of a problem; `problem` is all of it, as one text."""
ANSWER_TEMPLATES = ("answer", "answer_prefix")
TEMPLATES = ("system", "question", "cot_prefix", *ANSWER_TEMPLATES)
READER_SETTINGS = ("markovian", "answer_chat", *ANSWER_TEMPLATES, "examples")
"""Settings of the reader's prompt alone."""

Template = str | dict[AnswerKind, str] | None


def is_template(key: str) -> bool:
    """Whether a setting, by its key with dots, is a template or one kind's template."""
    group, _, name = key.partition(".")
    return (group == "prompt" and name.partition(".")[0] in TEMPLATES) or key == "sft.answer"


def fields_of(template: str) -> list[str]:
    """Return the names of a template's fields, in their order.

    Raises `ValueError`, saying why, for text that `str.format` cannot read, and for fields that are more than a name.
    """
    try:
        parts = list(Formatter().parse(template))
    except ValueError as error:
        raise ValueError(f"{error}; write {{{{ and }}}} for braces that are no field") from None
    names = []
    for _, name, form, conversion in parts:
        if name is None:
            continue
        if form or conversion or not name.isidentifier():
            raise ValueError(f"the field {{{name}}} is no plain name; write {{{{ and }}}} for braces that are no field")
        names.append(name)
    return names


class Example(Group):
    """A worked example that the reader is shown before the CoT, the same for every question."""

    cot: str
    answer: str

    @model_validator(mode="after")
    def _not_empty(self) -> Example:
        for name in ("cot", "answer"):
            if not getattr(self, name).strip():
                raise ValueError(f"{name}: is empty; give a text")
        return self


class Prompt(Group):
    """How contexts are built: what the actor reads before its CoT, and what the reader answers from."""

    markovian: bool = True
    """false: the answer context shows the question too (the Non-Markovian ablation)."""
    chat: bool = True
    """Use the tokenizer's chat template when it has one."""
    answer_chat: bool | None = None
    """Whether the reader's prompt uses it, too; by default as the preset's does, or else as `chat`."""
    preset: Literal["default", "paper"] = "default"
    """Where templates that are not given come from. paper: the reader sees the actor's own prompt with [redacted] in
    the question's place, and the CoT in its own turn."""
    system: Template = None
    """The system turn of both contexts, or what they begin with where there is no chat template."""
    question: Template = None
    """What the actor is asked, with {question}, {choices} and {passage}, or all of them as {problem}. A line whose
    fields are all empty is left out."""
    cot_prefix: Template = None
    """What the actor's turn begins with; its CoT continues it."""
    answer: Template = None
    """What the reader is shown: with {cot}, and in Markovian mode nothing of the problem."""
    answer_prefix: Template = None
    """What the reader's turn begins with; the answer continues it. {cot} may stand here instead."""
    examples: tuple[Example, ...] | dict[AnswerKind, tuple[Example, ...]] | None = None
    """Worked examples for the reader: a list of {cot: ..., answer: ...}."""

    @model_validator(mode="after")
    def _templates_fit(self) -> Prompt:
        for name in ("system", "cot_prefix"):
            for where, text in self._texts(name):
                _check(where, text, ())
        for where, text in self._texts("question"):
            if not _check(where, text, PROBLEM_FIELDS):
                raise ValueError(f"{where}: shows nothing of the question; put {{question}} or {{problem}} into it")
        for name in ANSWER_TEMPLATES:
            for where, text in self._texts(name):
                self._check_answer(where, text)
        return self

    def _check_answer(self, where: str, text: str) -> None:
        names = _check(where, text, (COT, *PROBLEM_FIELDS))
        leaks = [name for name in names if name != COT]
        if leaks and self.markovian:
            raise ValueError(
                f"{where}: names {{{leaks[0]}}}, which the reader must not see in Markovian mode; take it out, or set "
                "prompt.markovian=false"
            )
        if names.count(COT) > 1:
            raise ValueError(f"{where}: shows {{cot}} {names.count(COT)} times; once is right")

    def _texts(self, name: str) -> Iterable[tuple[str, str]]:
        """The templates given by one setting, each with the setting's name."""
        value: Template = getattr(self, name)
        if isinstance(value, str):
            yield name, value
        elif value is not None:
            yield from ((f"{name}.{kind}", text) for kind, text in value.items())


def _check(where: str, text: str, known: tuple[str, ...]) -> list[str]:
    """The fields of a template. Raises `ValueError` for those that are not known."""
    try:
        names = fields_of(text)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    if unknown := [name for name in names if name not in known]:
        there = f"there are {', '.join(f'{{{name}}}' for name in known)}" if known else "it takes none"
        raise ValueError(f"{where}: the field {{{unknown[0]}}} is not known; {there}")
    return names
