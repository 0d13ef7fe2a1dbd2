"""Whether other models can follow a run's CoTs, over its steps: transfer of informativeness to readers it never had.

Informativeness of a CoT to a reader E: ln p_E(answer | CoT) - ln p_E(answer | the base's CoT), in nats per token of the
answer (Viteri et al., arXiv 2404.18988, section on cross-model evaluation). The paper scores training CoTs; here what
counts are CoTs on held-out items, and those of training, where a run kept them, stand beside them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from pathlib import Path

import numpy as np

from markov_cot.analysis.cots import WRITTEN_AT_ONCE, Cot, CotWriter, analysis_folder, parts_of, per_token
from markov_cot.analysis.readings import SCORES, ItemScores, finite
from markov_cot.checkpoints.checkpoint import step_of
from markov_cot.data.own import same_data
from markov_cot.data.problem import Problem
from markov_cot.evaluation.evaluate import Evaluator, Request, Track
from markov_cot.evaluation.item_log import ItemLog
from markov_cot.evaluation.learning_curve import run_sources
from markov_cot.evaluation.loaded_model import LoadedModel, ModelSource
from markov_cot.evaluation.statistics import Estimate, estimate, spearman
from markov_cot.evaluation.task import EvalTask
from markov_cot.models.roles import CRITIC
from markov_cot.rewards.readers import Readers
from markov_cot.rollouts.sampler import Sampler
from markov_cot.tracking.step_files import kept_steps, read_step, rollouts_folder

TRAINING_STEPS = 40
"""Most training steps whose CoTs are scored, evenly spread over those that were kept."""
ByReader = Mapping[str, Mapping[int, float]]
"""By reader and item, nats per answer token."""


@dataclass(frozen=True)
class Correlation:
    """Spearman's rank correlation of two readers' informativeness over the items, at the last step."""

    readers: tuple[str, str]
    rho: float | None
    """None where one of them finds all items alike."""
    low: float | None
    high: float | None
    """Percentile bootstrap 95 % interval over the items."""


@dataclass(frozen=True)
class Transfer:
    """What each reader makes of a run's CoTs."""

    run: str
    work: EvalTask
    readers: tuple[str, ...]
    """The run's frozen base first, which is what it was trained to be read by."""
    held_out: Mapping[int, Mapping[str, Estimate]]
    """By step (0 is the base) and reader, informativeness over the items."""
    logprob: Mapping[int, Mapping[str, Estimate]]
    """The same of the answer's log-prob itself."""
    training: Mapping[int, Mapping[str, Estimate]]
    """By step, informativeness over the step's problems, each the mean of its group; empty if no CoTs were kept."""
    correlations: list[Correlation]
    folder: Path


def transfer(request: Request, track: Track, say: Callable[[str], None]) -> Transfer:
    """Have a run's CoTs scored by its base and by the readers that the request's settings name.

    CoTs that evaluations kept are used, others are written. Raises `UserError`.
    """
    request = per_token(request)
    run, sources, base = run_sources(request, say)
    evaluator = Evaluator(replace(request, run=run), sources[0], [base])
    [work] = evaluator.workloads
    folder = request.out or analysis_folder(base, request, work.config)
    scorer = _Scorer(request, work, evaluator.subject, folder)
    scores = {0: scorer.of_checkpoint(base, track)}
    for source in sources:
        evaluator.subject.load(source)
        scores[step_of(Path(source.ref.name))] = scorer.of_checkpoint(source, track)
    informativeness = {step: _less(of_step, scores[0]) for step, of_step in scores.items()}
    last = informativeness[max(informativeness)]
    return Transfer(
        run,
        work,
        scorer.names,
        {step: _estimates(each) for step, each in informativeness.items()},
        {step: _estimates(each) for step, each in scores.items()},
        _of_training(scorer, request.overrides.folder("runs_dir") / run, base, track, say),
        [_correlation(pair, last) for pair in combinations(scorer.names, 2)],
        folder,
    )


def _of_training(
    scorer: _Scorer, run_folder: Path, base: ModelSource, track: Track, say: Callable[[str], None]
) -> dict[int, dict[str, Estimate]]:
    """Informativeness of the training CoTs that a run kept, by step and reader, where it was trained on these data."""
    kept = kept_steps(rollouts_folder(run_folder))
    if not kept or not scorer.is_of(base.default_task().dataset):
        return {}
    steps = sorted({kept[round(place)] for place in np.linspace(0, len(kept) - 1, min(len(kept), TRAINING_STEPS))})
    advance = track("training CoTs", len(steps))
    found = {}
    for step in steps:
        estimates = scorer.of_training(run_folder, step)
        if estimates is None:
            say(f"training CoTs of step {step} are left out: the data no longer have their problems")
        else:
            found[step] = estimates
        advance(1)
    return found


class _Scorer:
    """Scores CoTs by several readers, each under its own prompt."""

    def __init__(self, request: Request, work: EvalTask, subject: LoadedModel, folder: Path) -> None:
        self._request, self._work, self._subject, self._cache = request, work, subject, folder / "cache"
        self._readers: Readers = subject.readers(work.config).for_base()
        self.names = tuple(reader.name for reader in self._readers.readers)
        self._sampler = Sampler(subject.policy, self._readers.budgets)

    def is_of(self, dataset: str) -> bool:
        """Whether the items are of this dataset."""
        return same_data(self._work.task.dataset, dataset)

    def of_checkpoint(self, source: ModelSource, track: Track) -> dict[str, dict[int, float]]:
        """The log-prob of each item's answer after the CoT by a checkpoint, which is loaded."""
        items, name = self._work.items, source.ref.name
        writer = CotWriter(self._work, self._subject, source, self._request, self._cache)
        cots = writer.cots(track(f"{name} writes", len(items)))
        advance = track(f"{name} is read", len(items))
        with ItemLog(self._cache, {**writer.settings, "of": "transfer"}, SCORES) as log:
            for part in parts_of(items, WRITTEN_AT_ONCE):
                if any(item.index not in log.done for item in part):
                    found = self._scores([item.problem for item in part], [cots[item.index] for item in part])
                    rows = (ItemScores(item.index, tuple(each)) for item, each in zip(part, found, strict=True))
                    log.append(row for row in rows if row.index not in log.done)
                advance(len(part))
            scores = {item.index: log.done[item.index].logprobs for item in items}
        return {name: {i: each[r] for i, each in scores.items()} for r, name in enumerate(self.names)}

    def of_training(self, run_folder: Path, step: int) -> dict[str, Estimate] | None:
        """Informativeness of the training CoTs of a step, by reader; None where the data do not have its problems."""
        groups: dict[tuple[str, str, str], list[Cot]] = {}
        for row in read_step(rollouts_folder(run_folder), step):
            groups.setdefault((row["problem"], row["question"], row["answer"]), []).append(row["cot_ids"])
        if not groups.keys() <= self._training_problems.keys():
            return None
        return self._of_groups([self._training_problems[key] for key in groups], list(groups.values()))

    @cached_property
    def _training_problems(self) -> dict[tuple[str, str, str], Problem]:
        return {(each.id, each.question, each.answer): each for each in self._work.splits.train}

    def _of_groups(self, problems: Sequence[Problem], groups: Sequence[Sequence[Cot]]) -> dict[str, Estimate]:
        contexts = [self._readers.prompts.question_context(problem) for problem in problems]
        baseline = self._scores(problems, self._sampler.greedy_cots(contexts, len(groups[0][0]), CRITIC))
        repeated = [problem for problem, group in zip(problems, groups, strict=True) for _ in group]
        scores = iter(self._scores(repeated, [cot for group in groups for cot in group]))
        by_reader: dict[str, list[float]] = {name: [] for name in self.names}
        for group, without in zip(groups, baseline, strict=True):
            of_group = [next(scores) for _ in group]
            for r, name in enumerate(self.names):
                by_reader[name].append(sum(each[r] for each in of_group) / len(group) - without[r])
        return {name: estimate(values) for name, values in by_reader.items()}

    def _scores(self, problems: Sequence[Problem], cots: Sequence[Cot]) -> list[list[float]]:
        """Each reader's log-prob of each answer: [CoTs][readers]."""
        columns = []
        for reader in self._readers.readers:
            alone = replace(self._readers, readers=(reader,))
            columns.append(finite(alone.read(problems, cots).logprob_B.tolist(), alone))
        return [list(row) for row in zip(*columns, strict=True)]


def _less(scores: ByReader, base: ByReader) -> dict[str, dict[int, float]]:
    return {name: {i: value - base[name][i] for i, value in of.items()} for name, of in scores.items()}


def _estimates(scores: ByReader) -> dict[str, Estimate]:
    return {name: estimate(list(of.values())) for name, of in scores.items()}


def _correlation(pair: tuple[str, str], scores: ByReader) -> Correlation:
    first, second = scores[pair[0]], scores[pair[1]]
    return Correlation(pair, *spearman(list(first.values()), [second[index] for index in first]))
