"""Whether CoTs carry the answer: what a reader makes of them, and of what they are changed into.

Effect of a change = ln p(answer | CoT) - ln p(answer | changed CoT), in nats per token of the answer: positive where
the change made the answer less probable (Viteri et al., arXiv 2404.18988). One reader reads both, in the run's own mode
(Markovian or not), and every CoT is written by the model that is probed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from markov_cot.analysis.changes import PARAPHRASE, Changer, Written, prefixes, with_others, without_each
from markov_cot.analysis.continuation import Continuation
from markov_cot.analysis.cots import READ_AT_ONCE, Cot, CotWriter, analysis_folder, parts_of, per_token
from markov_cot.analysis.paraphrase import Paraphraser
from markov_cot.analysis.readings import READINGS, ItemReadings, Reading, finite
from markov_cot.analysis.units import CHARACTERS, Characters, Tokens, Units
from markov_cot.config.schema import Config
from markov_cot.data.copying import copied
from markov_cot.data.problem import Problem
from markov_cot.evaluation.answering import answer_from_cots
from markov_cot.evaluation.evaluate import (
    Evaluator,
    Request,
    Track,
    find_source,
    other_subject,
    reference_source,
)
from markov_cot.evaluation.item_log import ItemLog
from markov_cot.evaluation.loaded_model import LoadedModel, ModelSource
from markov_cot.evaluation.locate import BASE
from markov_cot.evaluation.reader_check import ReaderCheck, check_readers
from markov_cot.evaluation.task import EvalTask
from markov_cot.grading.extractors import PRIMARY
from markov_cot.models.roles import CRITIC
from markov_cot.rewards.readers import Readers
from markov_cot.utils.errors import UserError

T = TypeVar("T")

FORMAT = 1
"""Of cached readings; raised when they would come out differently."""
TENTHS = 10
CHECKED = 64
"""Most problems that the reader's ceiling and floor are measured on."""


@dataclass(frozen=True, slots=True)
class ProbeRequest:
    """What the command line asks for."""

    request: Request
    """Who is probed, and on which items."""
    tests: tuple[str, ...]
    against: str | None = None
    """A run, or as `Request.against`."""
    unit: str = CHARACTERS
    paraphraser: str | None = None
    examples: int = 0
    """Items whose tokens are left out one at a time."""


@dataclass(frozen=True)
class Probed:
    """One model's readings."""

    source: ModelSource
    config: Config
    readers: Readers
    check: ReaderCheck
    settings: Mapping[str, Any]
    """All that the readings depend on."""
    items: list[ItemReadings]
    """Graded."""
    blank: int
    """CoTs of white space alone."""
    copied: float
    """Mean share of a CoT's 4-grams of words that stand in the passage or the question."""
    lost_characters: float | None
    """Mean number of a CoT that does not come through to a reader of another tokenizer; None without such a reader."""
    texts: Mapping[int, tuple[str, ...]]
    """The tokens, as text, of the CoTs whose tokens were left out one at a time, by item."""


@dataclass(frozen=True)
class ProbeOutcome:
    """Readings of the model that is probed, and of the one it is held against."""

    asked: ProbeRequest
    work: EvalTask
    model: dict[str, str]
    """The base's name and fingerprint."""
    folder: Path
    own: Probed
    other: Probed | None


def probe(asked: ProbeRequest, track: Track, say: Callable[[str], None]) -> ProbeOutcome:
    """Probe a checkpoint or a plain model. What was computed is kept, and continued after an interruption.

    Raises `UserError`.
    """
    request = per_token(asked.request)
    asked = replace(asked, request=request)
    source = find_source(request, request.checkpoint, say)
    other = _other(request, source, asked.against, say) if asked.against else None
    evaluator = Evaluator(request, source, [other] if other else [])
    [work] = evaluator.workloads
    folder = request.out or analysis_folder(source, request, work.config)
    paraphraser = _paraphraser(asked, work.config, evaluator.subject)
    own = _Probe(asked, work, evaluator.subject, source, folder, paraphraser).run(track)
    theirs = None
    if other:
        subject = evaluator.subject if other.ref.folder is None else other_subject(evaluator, other)
        theirs = _Probe(replace(asked, examples=0), work, subject, other, folder, paraphraser).run(track)
    return ProbeOutcome(asked, work, evaluator.subject.base, folder, own, theirs)


def _other(request: Request, source: ModelSource, against: str, say: Callable[[str], None]) -> ModelSource:
    """What `--against` names: a run's best checkpoint, a checkpoint, or the base."""
    is_name = Path(against).name == against != BASE
    if is_name and (request.overrides.folder("checkpoints_dir") / against).is_dir():
        return find_source(replace(request, run=against), None, say)
    return reference_source(request, source, against, say)


def _paraphraser(asked: ProbeRequest, config: Config, subject: LoadedModel) -> Paraphraser | None:
    if PARAPHRASE not in asked.tests or asked.paraphraser is None:
        return None
    return Paraphraser(asked.paraphraser, config, subject.policy)


class _Probe:
    """Probes one model on the items of a task."""

    def __init__(
        self,
        asked: ProbeRequest,
        work: EvalTask,
        subject: LoadedModel,
        source: ModelSource,
        folder: Path,
        paraphraser: Paraphraser | None,
    ) -> None:
        self._asked, self._work, self._subject, self._source = asked, work, subject, source
        self._config = source.config(work.task)
        self._cache = folder / "cache"
        self._writer = CotWriter(work, subject, source, asked.request, self._cache)
        readers = subject.readers(self._config)
        self._readers: Readers = readers.for_base() if source.writer == CRITIC else readers
        self._units: Units[Any] = (
            Characters(subject.tokenizer)
            if asked.unit == CHARACTERS
            else Tokens(subject.tokenizer, subject.policy.banned_V.tolist())
        )
        continuation = Continuation(subject.policy, self._readers, self._writer.writing)
        seed = asked.request.seed
        self._changer = Changer(asked.tests, self._units, subject.tokenizer, seed, continuation, paraphraser)
        self._settings = {
            **self._writer.settings,
            "of": "probe",
            "probe_format": FORMAT,
            "tests": list(asked.tests),
            "unit": asked.unit,
            "examples": asked.examples,
            "perturbation_seed": seed,
            "paraphraser": paraphraser.about if paraphraser else None,
        }

    def run(self, track: Track) -> Probed:
        """Return the readings of all items."""
        items, name = self._work.items, self._source.ref.name
        cots = self._writer.cots(track(f"{name} writes", len(items)))
        check = check_readers(self._readers, [item.problem for item in items[:CHECKED]])
        written = with_others(items, {i: self._units.join(self._units.split(cot)) for i, cot in cots.items()})
        rows = self._read(written, track(f"{name} is read", len(items)))
        # Of continuations no answer is given that could be read out.
        primary = PRIMARY.get(items[0].problem.kind)
        extractor = primary.for_articles(self._config.data.articles) if primary else None
        return Probed(
            source=self._source,
            config=self._config,
            readers=self._readers,
            check=check,
            settings=self._settings,
            items=[row.graded(item.problem, extractor) for row, item in zip(rows, items, strict=True)],
            blank=sum(not "".join(self._pieces(row.cot)).strip() for row in rows),
            copied=sum(self._copied(row.cot, item.problem) for row, item in zip(rows, items, strict=True)) / len(rows),
            lost_characters=self._readers.lost_characters([row.cot for row in rows]),
            texts={row.index: tuple(self._pieces(row.cot)) for row in rows if row.occluded},
        )

    def _read(self, written: Sequence[Written], advance: Callable[[int], None]) -> list[ItemReadings]:
        shown = {each.item.index for each in written[: self._asked.examples]}
        with ItemLog(self._cache, self._settings, READINGS) as log:
            for part in parts_of(written, READ_AT_ONCE):
                if any(each.item.index not in log.done for each in part):
                    rows = self._readings(part, shown)
                    log.append(row for row in rows if row.index not in log.done)
                advance(len(part))
            return [log.done[each.item.index] for each in written]

    def _readings(self, batch: Sequence[Written], shown: set[int]) -> list[ItemReadings]:
        changed = self._changer.of(batch)
        shortened = [prefixes(each.cot, TENTHS) for each in batch]
        occluded = [without_each(each.cot) if each.item.index in shown else [] for each in batch]
        answered = [
            [each.cot, *(cot for shares in tests.values() for cot in shares.values())]
            for each, tests in zip(batch, changed, strict=True)
        ]
        answers = self._per_cot(batch, answered, self._answers)
        scored = self._per_cot(batch, [[*p, *o] for p, o in zip(shortened, occluded, strict=True)], self._logprobs)
        return [
            ItemReadings(
                each.item.index,
                tuple(each.cot),
                answers[i][tuple(each.cot)],
                {
                    test: {share: answers[i][tuple(cot)] for share, cot in shares.items()}
                    for test, shares in changed[i].items()
                },
                tuple(scored[i][tuple(cot)] for cot in shortened[i]),
                tuple(scored[i][tuple(cot)] for cot in occluded[i]),
            )
            for i, each in enumerate(batch)
        ]

    def _per_cot(
        self,
        batch: Sequence[Written],
        cots: Sequence[Sequence[Cot]],
        read: Callable[[Sequence[Problem], Sequence[Cot]], Sequence[T]],
    ) -> list[dict[tuple[int, ...], T]]:
        """What is read of each different one of each item's CoTs, all of them at once."""
        different = [list(dict.fromkeys(map(tuple, each))) for each in cots]
        problems = [written.item.problem for written, of in zip(batch, different, strict=True) for _ in of]
        values = iter(read(problems, [cot for of in different for cot in of]))
        return [{cot: next(values) for cot in of} for of in different]

    def _answers(self, problems: Sequence[Problem], cots: Sequence[Cot]) -> list[Reading]:
        self._check_room(problems, cots)
        # Without the question hidden, contexts are long: as many at once as in validation.
        parts = parts_of(list(zip(problems, cots, strict=True)), self._config.validation.batch)
        answers = [answer for part in parts for answer in answer_from_cots(self._readers, *zip(*part, strict=True))]
        logprobs = finite((answer.logprob for answer in answers), self._readers)
        return [Reading(logprob, answer.text) for logprob, answer in zip(logprobs, answers, strict=True)]

    def _logprobs(self, problems: Sequence[Problem], cots: Sequence[Cot]) -> list[float]:
        return finite(self._readers.read(problems, cots).logprob_B.tolist(), self._readers)

    def _pieces(self, cot: Cot) -> list[str]:
        pieces: list[str] = self._subject.tokenizer.batch_decode([[token] for token in cot])
        return pieces

    def _copied(self, cot: Cot, problem: Problem) -> float:
        return copied(self._subject.tokenizer.decode(cot), problem)

    def _check_room(self, problems: Sequence[Problem], cots: Sequence[Cot]) -> None:
        """Random characters make more tokens of a text; what does not fit is the user's to know."""
        for reader in self._readers.readers:
            longest = max(reader.tokens(p, cot) for p, cot in zip(problems, cots, strict=True))
            if longest > reader.policy.max_length:
                remedy = "lower rollout.length, or use another reader"
                if self._asked.unit == CHARACTERS:
                    remedy = f"pass --unit tokens, {remedy}"
                raise UserError(
                    f"reader {reader.name}: a changed CoT, its prompt and an answer are {longest} tokens, and its "
                    f"context has {reader.policy.max_length}; {remedy}"
                )
