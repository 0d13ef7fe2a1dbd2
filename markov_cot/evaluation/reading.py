"""`markov-cot sample --show-prompt` and `--reader-check`: what actor and reader read, and whether the reader can."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from markov_cot.data.prompts import Prompts
from markov_cot.evaluation.evaluate import Request, find_source
from markov_cot.evaluation.reader_check import ReaderCheck, check_readers
from markov_cot.evaluation.samples import Taken, take
from markov_cot.models.roles import CRITIC

COT_PLACE = "[CoT: {} tokens]"
ANSWER_PLACE = "[answer]"


@dataclass(frozen=True, slots=True)
class ShownPrompt:
    """Both contexts of one problem as text, special tokens included."""

    question: str
    """What the actor reads."""
    answers: dict[str, str]
    """What each reader reads, by its name; the CoT and the answer are places."""

    def as_json(self) -> dict[str, Any]:
        """As `sample --show-prompt --json` prints it."""
        return asdict(self)


def shown_prompts(request: Request, question: str | None, choices: Sequence[str], count: int) -> list[ShownPrompt]:
    """Both contexts of a typed question, or of `count` problems of the request's dataset, decoded from their ids."""
    shown = _taken(request, question, choices, count)
    readers = shown.subject.readers(shown.config)
    place = COT_PLACE.format(shown.config.rollout.length)
    found = []
    for item in shown.items:
        asked = _read(readers.prompts, readers.prompts.question_context(item.problem))
        answers = {}
        for reader in readers.readers:
            context = reader.prompts.answer_context(item.problem, [])
            before, after = context.ids[: context.prompt_length], context.ids[context.prompt_length :]
            answers[reader.name] = _read(reader.prompts, before) + place + _read(reader.prompts, after) + ANSWER_PLACE
        found.append(ShownPrompt(asked, answers))
    return found


def check_reader(request: Request, count: int) -> tuple[str, ReaderCheck]:
    """Name of the reader that answers, and the readers' ceiling and floor on `count` problems of the request's data."""
    shown = _taken(request, None, (), count)
    readers = shown.subject.readers(shown.config)
    readers = readers.for_base() if shown.source.writer == CRITIC else readers
    return readers.first.name, check_readers(readers, [item.problem for item in shown.items])


def _taken(request: Request, question: str | None, choices: Sequence[str], count: int) -> Taken:
    source = find_source(request, request.checkpoint, lambda _: None)
    return take(request, source, question, choices, count)


def _read(prompts: Prompts, ids: Sequence[int]) -> str:
    text: str = prompts.tokenizer.decode(list(ids), clean_up_tokenization_spaces=False)
    return text
