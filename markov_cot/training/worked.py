"""Worked questions as supervised fine-tuning learns them: a written CoT of at most L tokens, with its answer stated.

The actor writes exactly L tokens and no end of text, so what is learnt has to fit into them, and a shorter CoT is
learnt as far as it goes.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from markov_cot.config.schema import Config
from markov_cot.data.own import read_rows
from markov_cot.data.problem import Problem
from markov_cot.data.prompts import AnswerContext, Prompts
from markov_cot.data.sampler import sample
from markov_cot.data.splits import Splits, question_key
from markov_cot.grading.extractors import PRIMARY, grade
from markov_cot.utils.errors import UserError

SFT = "sft"


@dataclass(frozen=True, slots=True)
class Example:
    """A question and what the actor is to write after it, in tokens."""

    problem: Problem
    context: tuple[int, ...]
    """Of the question, as the actor reads it before a rollout."""
    cot: tuple[int, ...]
    answer: tuple[int, ...]
    """What states the answer after the CoT; empty where the CoT does so itself."""
    is_cut: bool
    """Whether the CoT lost its end."""

    def target(self, loss_on: str) -> AnswerContext:
        """Return the tokens that are learnt ("cot_answer", "cot" or "all"), after those that are only read."""
        if loss_on == "cot":
            return AnswerContext(self.context, self.cot)
        written = (*self.cot, *self.answer)
        if loss_on == "all":
            return AnswerContext(self.context[:1], (*self.context[1:], *written))
        return AnswerContext(self.context, written)


@dataclass(frozen=True, slots=True)
class Worked:
    """What supervised fine-tuning learns from, and is held out from it."""

    examples: list[Example]
    held_out: list[Example]
    """Those of the validation problems that are worked, too; their loss is logged."""
    cut: int
    """Examples that lost their end."""
    notes: list[str]
    """What else became of the rows, a line each."""

    def fingerprint(self) -> str:
        """Return the SHA-256 (hex) of what is learnt."""
        texts = [(question_key(p), p.answer, p.rationale) for p in (each.problem for each in self.examples)]
        return hashlib.sha256(json.dumps(texts).encode(errors="surrogatepass")).hexdigest()


def make_worked(
    config: Config, prompts: Prompts, splits: Splits, held_out: Sequence[Problem], fits: Callable[[Problem], bool]
) -> Worked:
    """Return the worked questions of the training split, or of `sft.rows`.

    Raises `UserError` where there are none, and where the best checkpoint is to be chosen by a loss on held-out CoTs
    of which there are none.
    """
    source, notes = splits.train, list[str]()
    if config.sft.rows:
        rows, skipped = read_rows(config.sft.rows, config.data, "sft.rows", splits.train[0].kind)
        if skipped:
            notes.append(f"{skipped} broken rows of {config.sft.rows} were skipped")
        source = _with_right_answers(_without_held_out(rows, splits, notes), splits, notes)
    chosen = _chosen(source, config, fits, notes)
    maker = _Maker(config, prompts)
    examples = list(maker.examples(chosen))
    if maker.dropped:
        notes.append(f"{maker.dropped} CoTs are longer than rollout.length={config.rollout.length} and are left out")
    if not examples:
        where = config.sft.rows or f"dataset {splits.name}"
        raise UserError(
            f"{where}: has no worked question to learn from{_why(notes)}; rows need a cot (or response) beside "
            "question and answer, or set sft.bare=answer"
        )
    cut = sum(each.is_cut for each in examples)
    if cut:
        notes.append(f"{cut} of {len(examples)} CoTs lose their end to fit into {config.rollout.length} tokens")
    bare_too = config.sft.bare == "answer"
    worked_too = [problem for problem in held_out[: config.validation.problems] if problem.rationale or bare_too]
    checked = list(_Maker(config, prompts).examples(worked_too))
    if config.sft.best == "loss" and not checked:
        raise UserError("sft.best loss: no validation problem has a written CoT; set sft.best=score")
    return Worked(examples, checked, cut, notes)


def with_own_settings(config: Config) -> Config:
    """Return the config with optimizer and validation as `sft` has them, if the method is that."""
    if config.method != SFT:
        return config
    optim = {name: getattr(config.sft, name) for name in ("lr", "schedule", "weight_decay")}
    validation = {"every": config.sft.every, "patience": config.sft.patience}
    return config.model_copy(
        update={
            "optim": config.optim.model_copy(update=optim),
            "validation": config.validation.model_copy(update=validation),
        }
    )


def with_steps(config: Config, examples: int) -> Config:
    """Return the config with the steps that `sft.epochs` passes take, unless they are given, and those of the warm-up.

    A pass has so many examples and the repeats of the hard ones.
    """
    sft = config.sft
    steps = sft.steps or math.ceil(sft.epochs * (examples + hard_count(config, examples)) / sft.batch)
    optim = config.optim.model_copy(update={"warmup_steps": round(sft.warmup_ratio * steps)})
    return config.model_copy(update={"steps": steps, "optim": optim})


def hard_count(config: Config, examples: int) -> int:
    """Return how many repeats of hard examples a pass has, where they are hard by their loss."""
    sft = config.sft
    return (sft.hard_repeats - 1) * max(1, round(sft.hard_share * examples)) if sft.hard_repeats > 1 else 0


class _Maker:
    """Turns worked problems into examples, and counts what is left out."""

    def __init__(self, config: Config, prompts: Prompts) -> None:
        self._config, self._prompts = config, prompts
        self.dropped = 0

    def examples(self, problems: Iterable[Problem]) -> Iterable[Example]:
        """Yield an example for each problem whose CoT fits, or may be cut."""
        for problem in problems:
            example = self._example(problem)
            if example is None:
                self.dropped += 1
            else:
                yield example

    def _example(self, problem: Problem) -> Example | None:
        sft, length = self._config.sft, self._config.rollout.length
        statement = "" if sft.loss_on == "cot" else sft.answer.format(answer=problem.answer)
        cot, answer = self._written(problem, "" if _concludes(problem) else statement)
        is_cut = len(cot) + len(answer) > length
        if is_cut:  # and the last line is lost
            cot, answer = self._written(problem, statement)
        room = length - len(answer)
        if is_cut and (sft.too_long == "drop" or room < 1):
            return None
        context = tuple(self._prompts.question_context(problem))
        return Example(problem, context, tuple(cot[:room]), tuple(answer), is_cut)

    def _written(self, problem: Problem, statement: str) -> tuple[list[int], list[int]]:
        return self._prompts.written_cot(problem, problem.rationale, statement)


def _concludes(problem: Problem) -> bool:
    """Whether the last line of its CoT gives the answer, by the extractor that is the default for its kind."""
    if problem.kind == "continuation":
        return False
    last_line = problem.rationale.rpartition("\n")[2]
    return grade(PRIMARY[problem.kind], last_line, problem.accepted, problem.choices)[1]


def _chosen(
    source: Sequence[Problem], config: Config, fits: Callable[[Problem], bool], notes: list[str]
) -> list[Problem]:
    """Up to `sft.limit` problems that can be learnt and fit the model's context."""
    looked_at, bare, drops = 0, 0, config.sft.bare == "drop"

    def is_usable(problem: Problem) -> bool:
        nonlocal looked_at, bare
        looked_at += 1
        bare += not problem.rationale
        return (bool(problem.rationale) or not drops) and fits(problem)

    chosen = sample(source, config.sft.limit, config.seed, is_usable)
    if bare:
        fate = "are left out" if drops else "are learnt by their answer alone"
        notes.append(f"{bare} of {looked_at} questions have no written CoT, or one that is wrong, and {fate}")
    if lost := looked_at - bare * drops - len(chosen):
        notes.append(f"{lost} questions are too long for the model's context and are left out")
    if looked_at < len(source):
        notes.append(f"{len(chosen):,} of {len(source):,} questions are learnt (sft.limit)")
    return chosen


def _without_held_out(rows: Sequence[Problem], splits: Splits, notes: list[str]) -> list[Problem]:
    """The rows whose questions are neither for validation nor for test."""
    held_out = [problem for split in (splits.validation, splits.test) for problem in split]
    asked = {_normalised(problem.question) for problem in held_out}
    asked_of_passages = {_normalised(problem.passage, problem.question) for problem in held_out}
    kept = [
        row
        for row in rows
        if _normalised(row.passage, row.question) not in asked_of_passages
        and (row.passage or _normalised(row.question) not in asked)
    ]
    if lost := len(rows) - len(kept):
        notes.append(f"{lost} of {len(rows)} rows ask what {splits.name} holds out and are left out")
    return kept


def _with_right_answers(rows: Sequence[Problem], splits: Splits, notes: list[str]) -> list[Problem]:
    """The rows but those that answer a training question otherwise than the data do."""
    accepted: dict[str, set[str]] = {}
    for problem in [] if splits.parameters else splits.train:  # there may be any number of generated ones
        accepted.setdefault(_normalised(problem.passage, problem.question), set()).update(problem.accepted)
    wanted = [accepted.get(_normalised(row.passage, row.question)) for row in rows]
    kept = [row for row, answers in zip(rows, wanted, strict=True) if answers is None or answers & set(row.accepted)]
    if lost := len(rows) - len(kept):
        notes.append(f"{lost} of {len(rows)} rows have another answer than {splits.name} and are left out")
    return kept


def _normalised(*texts: str) -> str:
    """Without case and white space. A teacher's file may lack the passages, and the choices, that the data have."""
    return " ".join(" ".join(texts).casefold().split())


def _why(notes: Sequence[str]) -> str:
    return f" ({'; '.join(notes)})" if notes else ""
