"""The texts of both contexts for each kind of answer: the defaults, the user's own, and how they are filled in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from markov_cot.config.prompt import COT, PROBLEM_FIELDS, TEMPLATES, Example, Prompt, fields_of
from markov_cot.data.problem import Problem
from markov_cot.grading.kinds import LETTERS, Kind
from markov_cot.utils.errors import UserError

REDACTED = "[redacted]"
PLAIN_QUESTION = "Question: {problem}\n"
PLAIN_PREFIX = "Reasoning:"

INSTRUCTIONS: dict[Kind, str] = {
    "numeric": "Write down the steps that lead to the answer, then the answer. "
    "Whoever answers will read your reasoning, not the question.",
    "choice": "Write down the reasoning that leads to the right choice, then its letter. "
    "Whoever answers will read your reasoning, not the question or its choices.",
    "continuation": "Write notes from which the text that follows this passage can be predicted. "
    "Whoever predicts it will read your notes, not the passage.",
    "text": "Write down the reasoning that leads to the answer, then the answer. "
    "Whoever answers will read your reasoning, not the passage or the question.",
}
"""Of the preset `paper`, for chat."""
SUFFIXES: dict[Kind, str] = {
    "numeric": "\nAnswer:",
    "choice": "\nAnswer:",
    "continuation": "\nContinuation:",
    "text": "\nAnswer:",
}
"""Between a CoT in the model's own turn and the answer."""


@dataclass(frozen=True, slots=True)
class Templates:
    """The texts of one kind's contexts, their fields not filled in."""

    question: str
    cot_prefix: str
    answer: str
    answer_prefix: str
    system: str = ""
    examples: tuple[Example, ...] = ()
    answer_chat: bool = True
    """Whether the reader's prompt uses the chat template, where there is one."""


def templates_of(settings: Prompt, kind: Kind, *, chat: bool) -> Templates:
    """Return the templates in use: the user's own, and the preset's for those that are not given.

    `chat` says whether the actor's prompt uses a chat template. Raises `UserError` where the reader's would not show
    the CoT exactly once.
    """
    preset = _preset(settings, kind, chat=chat)
    given: dict[str, Any] = {}
    for name in (*TEMPLATES, "examples"):
        value = getattr(settings, name)
        if isinstance(value, Mapping):
            value = value.get(kind)
        if value is not None:
            given[name] = value
    if answer := given.get("answer"):
        given = {"answer_prefix": _AFTER_ANSWER[kind], "answer_chat": chat, "examples": (), **given}
        if not settings.markovian and not set(fields_of(answer)) & set(PROBLEM_FIELDS):
            given["answer"] = "{problem}\n\n" + answer
    if settings.answer_chat is not None:
        given["answer_chat"] = settings.answer_chat
    found = replace(preset, **given)
    shown = sum(fields_of(text).count(COT) for text in (found.answer, found.answer_prefix))
    if shown != 1:
        raise UserError(
            f"prompt.answer: for {kind} answers the reader is shown {{cot}} {shown} times; put it once into "
            "prompt.answer or prompt.answer_prefix, and give both where they go together"
        )
    return found


def filled(template: str, problem: Problem | None = None, cot: str = "") -> str:
    """Return a template with its fields filled in, without the lines whose fields are all empty."""
    if problem is None:
        values = dict.fromkeys(PROBLEM_FIELDS, "")
    else:
        values = {
            "problem": question_text(problem),
            "passage": problem.passage,
            "question": problem.question,
            "choices": choices_text(problem),
        }
    lines = []
    for line, names in _lines(template):
        text = line.format(**values, cot=cot)
        if not names or text.strip():
            lines.append(text)
    return "\n".join(lines)


def question_text(problem: Problem) -> str:
    """Passage, question and lettered choices as one text."""
    return "\n".join(part for part in (problem.passage, problem.question, choices_text(problem)) if part)


def choices_text(problem: Problem) -> str:
    """The choices, each on a line and after its letter."""
    return "\n".join(f"{label}) {text}" for label, text in zip(LETTERS, problem.choices, strict=False))


@lru_cache(maxsize=256)
def _lines(template: str) -> list[tuple[str, list[str]]]:
    """The lines of a template, each with its fields."""
    return [(line, fields_of(line)) for line in template.split("\n")]


def _preset(settings: Prompt, kind: Kind, *, chat: bool) -> Templates:
    if settings.preset == "default" and chat and kind in _CHAT:
        return _chat_default(settings, kind)
    # The reader sees the actor's own prompt, and the CoT in its own turn.
    prefix = settings.cot_prefix.get(kind) if isinstance(settings.cot_prefix, Mapping) else settings.cot_prefix
    shape = f"{{}}\n\n{INSTRUCTIONS[kind]}" if chat else PLAIN_QUESTION.replace("{problem}", "{}")
    return Templates(
        question=shape.format("{problem}"),
        cot_prefix=PLAIN_PREFIX,
        answer=shape.format(REDACTED if settings.markovian else "{problem}"),
        answer_prefix=f"{PLAIN_PREFIX if prefix is None else prefix}{{cot}}{SUFFIXES[kind]}",
        answer_chat=chat,
    )


def _chat_default(settings: Prompt, kind: Kind) -> Templates:
    found = _CHAT[kind]
    if settings.markovian:
        return found
    return replace(found, answer="{problem}\n\n" + found.answer)


_AFTER_ANSWER: dict[Kind, str] = {
    "numeric": "The answer is:",
    "choice": "The answer is:",
    "continuation": "The text continues:",
    "text": "The answer is:",
}
"""What the answer follows where `prompt.answer` is given alone."""
_FROM_NOTES = Templates(
    question="{problem}", cot_prefix="", answer="Notes:{cot}\n", answer_prefix="Answer:", answer_chat=False
)
# Chosen on SmolLM2-135M-Instruct: benchmarks/README.md, "Prompts of a small chat model".
_CHAT: dict[Kind, Templates] = {
    "text": replace(
        _FROM_NOTES,
        answer="Reasoning:{cot}\n",
        answer_prefix="The final answer:",
        examples=(
            Example(cot=" The tower was finished in 1889, and it stands in Paris.", answer="1889"),
            Example(cot=" According to the text, it was the farmers who asked for a new bridge.", answer="the farmers"),
        ),
    ),
    "numeric": replace(
        _FROM_NOTES,
        question=f"{{problem}}\n\n{INSTRUCTIONS['numeric']}",
        cot_prefix=PLAIN_PREFIX,
        examples=(
            Example(cot=" Three boxes hold 12 pens each, so there are 3 * 12 = 36 pens.", answer="36"),
            Example(cot=" She had 50 and spent 15. That leaves 50 - 15 = 35.", answer="35"),
        ),
    ),
    "choice": replace(
        _FROM_NOTES,
        cot_prefix="Let's think step by step.",
        examples=(
            Example(cot=" Heat makes the water evaporate, so the right choice is C) evaporation.", answer="C"),
            Example(cot=" Only the fox eats rabbits. The answer is A.", answer="A"),
        ),
    ),
}
