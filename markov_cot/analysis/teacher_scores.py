"""What a student makes of a teacher's responses: one pass over the file, kept row by row and continued."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from markov_cot.analysis.teacher_files import Answered, RowReader, Teacher, responses
from markov_cot.config.prompt import READER_SETTINGS
from markov_cot.config.schema import Config
from markov_cot.data.prompts import AnswerContext
from markov_cot.evaluation.item_log import ItemLog, Layout
from markov_cot.evaluation.loaded_model import LoadedModel
from markov_cot.models.response_scores import ResponseScore
from markov_cot.models.roles import CRITIC
from markov_cot.models.scorer import Scorer
from markov_cot.utils.errors import UserError

FORMAT = 1
"""Of kept scores; raised when they would come out differently."""
AT_ONCE = 64
"""Responses; rounding depends on which are computed together."""
HIGHEST_RANK = 100
"""Where RSR's authors cut ranks off (arXiv 2601.14249)."""


@dataclass(frozen=True, slots=True)
class ScoredRow:
    """What the student makes of one row's response. Sums over tokens; units: nats."""

    index: int
    length: int
    """Tokens of the response."""
    tokens: int
    """Of them, those that fit into the context, which are all that is scored."""
    nll: float
    """After the question."""
    rank: int
    alone_tokens: int
    """Of the scored ones, those that have something before them when the response stands alone."""
    alone_nll: float


def _from_json(row: Any) -> ScoredRow:
    return ScoredRow(
        index=int(row["index"]),
        length=int(row["length"]),
        tokens=int(row["tokens"]),
        nll=float(row["nll"]),
        rank=int(row["rank"]),
        alone_tokens=int(row["alone_tokens"]),
        alone_nll=float(row["alone_nll"]),
    )


SCORES = Layout(asdict, _from_json)


class Student:
    """A loaded base that reads responses as it would be trained on them."""

    def __init__(self, subject: LoadedModel, config: Config, highest_rank: int, most_tokens: int | None) -> None:
        """`most_tokens` is where prompt and response are cut off, if that is before the end of the context."""
        self.base, self.dtype = subject.base, subject.dtype
        self._prompts = subject.prompts(config.prompt)
        self._opening = self._prompts.opening()
        self._scorer = Scorer(subject.policy, subject.budgets)
        self._highest_rank = highest_rank
        self._most_tokens = min(subject.policy.max_length, most_tokens or subject.policy.max_length)
        self.settings: dict[str, Any] = {
            "of": "teachers",
            "format": FORMAT,
            "base": subject.base["name"],
            "base_fingerprint": subject.base["fingerprint"],
            "dtype": subject.dtype,
            "device": subject.device.type,
            "four_bit": config.model.four_bit,
            "prompt": config.prompt.model_dump(mode="json", exclude=set(READER_SETTINGS)),
            "most_tokens": self._most_tokens,
            "highest_rank": highest_rank,
        }
        """All that scores depend on, but for the file."""

    @property
    def chat(self) -> bool:
        """Whether questions are asked through the tokenizer's chat template."""
        return self._prompts.chat

    def scores(
        self,
        teacher: Teacher,
        reader: RowReader,
        wanted: Collection[int],
        cache: Path,
        about: Mapping[str, Any],
        advance: Callable[[int], None],
    ) -> dict[int, ScoredRow]:
        """Return the scores of the wanted rows by their index. Raises `UserError`.

        `about` is what the questions depend on beside the file.
        """
        with ItemLog(cache, {**self.settings, **about, "file": teacher.sha256}, SCORES) as log:
            for part in _parts(responses(teacher, reader, wanted)):
                if any(index not in log.done for index, _ in part):
                    log.append(row for row in self._scored(teacher, part) if row.index not in log.done)
                advance(len(part))
            return {index: log.done[index] for index in wanted}

    def _scored(self, teacher: Teacher, part: Sequence[tuple[int, Answered]]) -> Iterator[ScoredRow]:
        asked, alone, lengths = list[AnswerContext](), list[AnswerContext](), list[int]()
        for index, answered in part:
            context = self._prompts.response_context(answered.problem, answered.response)
            room = self._most_tokens - len(context.ids)
            if room < 1 or not context.answer_ids:
                reason = "its question alone fills the context" if room < 1 else "its response has no tokens"
                raise UserError(f"{teacher.path} row {index + 1}: {reason} of {self._most_tokens} tokens; take it out")
            lengths.append(len(context.answer_ids))
            ids = context.answer_ids[:room]
            asked.append(AnswerContext(context.ids, ids))
            start = self._opening or ids[:1]
            alone.append(AnswerContext(start, ids if self._opening else ids[1:]))
        have_any = [i for i, context in enumerate(alone) if context.answer_ids]
        found = self._scorer.responses([*asked, *(alone[i] for i in have_any)], CRITIC, self._highest_rank)
        by_place = dict(zip(have_any, found[len(asked) :], strict=True))
        for place, ((index, _), length, score) in enumerate(zip(part, lengths, found[: len(asked)], strict=True)):
            apart = by_place.get(place, ResponseScore(0, 0.0, 0))
            if not (math.isfinite(score.nll) and math.isfinite(apart.nll)):
                raise UserError(
                    f"student {self.base['name']}: finds no finite loss of {teacher.path} row {index + 1}; check its "
                    "weights, or read in float32 (--set model.dtype=float32)"
                )
            yield ScoredRow(index, length, score.tokens, score.nll, score.rank, apart.tokens, apart.nll)


def _parts(rows: Iterable[tuple[int, Answered]]) -> Iterator[list[tuple[int, Answered]]]:
    rest = iter(rows)
    while part := list(islice(rest, AT_ONCE)):
        yield part
