"""Whether CoTs carry the answer: what a reader makes of them, and of what they are changed into.

Effect of a change = ln p(answer | CoT) - ln p(answer | changed CoT), in nats per token of the answer: positive where
the change made the answer less probable (Viteri et al., arXiv 2404.18988). One reader reads both, in the run's own mode
(Markovian or not), and every CoT is written by the model that is probed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from markov_cot.analysis.changes import PARAPHRASE, Changer, Written, with_others
from markov_cot.analysis.cots import Cot, CotWriter, analysis_folder, parts_of
from markov_cot.analysis.paraphrase import Paraphraser
from markov_cot.analysis.readings import READINGS, ItemReadings, Reading
from markov_cot.analysis.units import CHARACTERS, Characters, Tokens, Units
from markov_cot.config.schema import Config
from markov_cot.data.problem import Problem
from markov_cot.evaluation.answering import Answer, answer_from_cots
from markov_cot.evaluation.evaluate import (
    Evaluator,
    Request,
    Track,
    find_source,
    other_subject,
    reference_source,
)
from markov_cot.evaluation.item_log import ItemLog
from markov_cot.evaluation.loaded_model import LoadedModel, ModelSource, Overrides
from markov_cot.evaluation.locate import BASE
from markov_cot.evaluation.reader_check import ReaderCheck, check_readers
from markov_cot.evaluation.records import rounded
from markov_cot.evaluation.task import EvalTask
from markov_cot.grading.extractors import PRIMARY, grade
from markov_cot.models.roles import CRITIC
from markov_cot.rewards.readers import Readers
from markov_cot.rollouts.sampler import Sampler
from markov_cot.utils.errors import UserError

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
    readers: tuple[str, ...]
    check: ReaderCheck
    items: list[ItemReadings]
    blank: int
    """CoTs of white space alone."""
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
    request = replace(asked.request, overrides=_per_token(asked.request.overrides))
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
        theirs = _Probe(asked, work, subject, other, folder, paraphraser).run(track)
    return ProbeOutcome(asked, work, evaluator.subject.base, folder, own, theirs)


def _per_token(overrides: Overrides) -> Overrides:
    """Effects are per token of the answer, whatever the reward was."""
    return replace(overrides, settings={**overrides.settings, "reward.reduction": "mean"})


def _other(request: Request, source: ModelSource, against: str, say: Callable[[str], None]) -> ModelSource:
    """What `--against` names: a run's best checkpoint, a checkpoint, or the base."""
    if against != BASE and (request.overrides.folder("checkpoints_dir") / against).is_dir():
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
        self._sampler = Sampler(subject.policy, readers.budgets)
        self._units: Units[Any] = (
            Characters(subject.tokenizer)
            if asked.unit == CHARACTERS
            else Tokens(subject.tokenizer, subject.policy.banned_V.tolist())
        )
        self._changer = Changer(
            asked.tests, self._units, subject.tokenizer, asked.request.seed, self._continued, paraphraser
        )
        self._extractor = PRIMARY[work.items[0].problem.kind].for_articles(self._config.data.articles)
        self._settings = {
            **self._writer.settings,
            "of": "probe",
            "probe_format": FORMAT,
            "tests": list(asked.tests),
            "unit": asked.unit,
            "examples": asked.examples,
            "perturbation_seed": asked.request.seed,
            "paraphraser": paraphraser.about if paraphraser else None,
        }

    def run(self, track: Track) -> Probed:
        """Return the readings of all items."""
        items, name = self._work.items, self._source.ref.name
        cots = self._writer.cots(track(f"{name} writes", len(items)))
        check = check_readers(self._readers, [item.problem for item in items[:CHECKED]])
        written = with_others(items, {i: self._units.join(self._units.split(cot)) for i, cot in cots.items()})
        advance = track(f"{name} is read", len(items))
        shown = {item.index for item in items[: self._asked.examples]}
        with ItemLog(self._cache, self._settings, READINGS) as log:
            for part in parts_of(written):
                if any(each.item.index not in log.done for each in part):
                    rows = self._readings(part, shown)
                    log.append(row for row in rows if row.index not in log.done)
                advance(len(part))
            rows = [log.done[item.index] for item in items]
        texts = {row.index: tuple(self._pieces(row.cot)) for row in rows if row.occluded}
        names = tuple(reader.name for reader in self._readers.readers)
        blank = sum(not "".join(self._pieces(row.cot)).strip() for row in rows)
        return Probed(self._source, self._config, names, check, rows, blank, texts)

    def _readings(self, batch: Sequence[Written], shown: set[int]) -> list[ItemReadings]:
        changed = self._changer.of(batch)
        prefixes = [self._changer.prefixes(each.cot, TENTHS) for each in batch]
        occluded = [_without_each(each.cot) if each.item.index in shown else [] for each in batch]
        answered = [
            [list(each.cot), *(cot for shares in tests.values() for cot in shares.values())]
            for each, tests in zip(batch, changed, strict=True)
        ]
        answers = self._answers(batch, answered)
        logprobs = self._logprobs(batch, [[*p, *o] for p, o in zip(prefixes, occluded, strict=True)])
        rows = []
        for each, tests, read, scored in zip(batch, changed, answers, logprobs, strict=True):
            whole = read[tuple(each.cot)]
            readings = {
                name: {share: read[tuple(cot)] for share, cot in shares.items()} for name, shares in tests.items()
            }
            # The first and the last prefix are no CoT and the whole one, which may have been read already.
            after = [scored[tuple(cot)] for cot in self._changer.prefixes(each.cot, TENTHS)]
            without = [scored[tuple(cot)] for cot in _without_each(each.cot)] if each.item.index in shown else []
            rows.append(ItemReadings(each.item.index, tuple(each.cot), whole, readings, tuple(after), tuple(without)))
        return rows

    def _answers(self, batch: Sequence[Written], cots: Sequence[Sequence[Cot]]) -> list[dict[tuple[int, ...], Reading]]:
        """What is answered from each different one of each item's CoTs."""
        different = [list(dict.fromkeys(map(tuple, each))) for each in cots]
        problems = [written.item.problem for written, of in zip(batch, different, strict=True) for _ in of]
        self._check_room(problems, [cot for of in different for cot in of])
        answers = iter(answer_from_cots(self._readers, problems, [cot for of in different for cot in of]))
        found = [{cot: self._reading(next(answers)) for cot in of} for of in different]
        self._check_finite([reading.logprob for of in found for reading in of.values()])
        return found

    def _logprobs(self, batch: Sequence[Written], cots: Sequence[Sequence[Cot]]) -> list[dict[tuple[int, ...], float]]:
        """Log-prob of the true answer after each different one of each item's CoTs."""
        different = [list(dict.fromkeys(map(tuple, each))) for each in cots]
        problems = [written.item.problem for written, of in zip(batch, different, strict=True) for _ in of]
        reading = self._readers.read(problems, [cot for of in different for cot in of])
        values = iter(map(rounded, reading.logprob_B.tolist()))
        return [{cot: next(values) for cot in of} for of in different]

    def _reading(self, answer: Answer) -> Reading:
        problem, logprob = answer.problem, rounded(answer.logprob)
        if problem.kind == "continuation":
            return Reading(logprob, None, "")
        predicted, right = grade(self._extractor, answer.text, problem.accepted, problem.choices)
        return Reading(logprob, right, "" if predicted is None else repr(self._extractor.vote(predicted)))

    def _continued(self, begun: Sequence[tuple[Problem, Cot]], length: int) -> list[list[int]]:
        prompts = self._readers.prompts
        contexts = [[*prompts.question_context(problem), *cot] for problem, cot in begun]
        return self._sampler.greedy_cots(contexts, length, self._writer.writing.writer)

    def _pieces(self, cot: Cot) -> list[str]:
        pieces: list[str] = self._subject.tokenizer.batch_decode([[token] for token in cot])
        return pieces

    def _check_room(self, problems: Sequence[Problem], cots: Sequence[Cot]) -> None:
        """Random characters make more tokens of a text; what does not fit is the user's to know."""
        for reader in self._readers.readers:
            longest = max(
                len(context.ids) + len(context.answer_ids)
                for context in (reader.context(p, cot) for p, cot in zip(problems, cots, strict=True))
            )
            if longest > reader.policy.max_length:
                raise UserError(
                    f"reader {reader.name}: a changed CoT, its prompt and the answer are {longest} tokens, and its "
                    f"context has {reader.policy.max_length}; pass --unit tokens, or lower rollout.length"
                )

    def _check_finite(self, logprobs: Sequence[float]) -> None:
        bad = sum(not math.isfinite(value) for value in logprobs)
        if bad:
            names = ", ".join(reader.name for reader in self._readers.readers)
            raise UserError(
                f"reader {names}: finds no finite log-prob (NaN or infinity) of the answer after {bad} of "
                f"{len(logprobs)} CoTs; check its weights, or read in float32 (--set model.dtype=float32)"
            )


def _without_each(cot: Cot) -> list[list[int]]:
    """The CoT without its first token, without its second, and so on."""
    return [[*cot[:i], *cot[i + 1 :]] for i in range(len(cot))]
