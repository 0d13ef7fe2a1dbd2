"""The training loop, whatever a step is: validation, alarms, log, checkpoints, the end."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from markov_cot.alarms.monitor import AlarmFailure, Event
from markov_cot.config.loading import flatten
from markov_cot.data.problem import Problem
from markov_cot.evaluation.reader_check import ReaderCheck, check_readers
from markov_cot.evaluation.run import Run
from markov_cot.evaluation.validation import Mark, Marks, Score, answer_rows, summarise_marks, validate
from markov_cot.models.memory import SCORE, UPDATE, TokenBudgets, peak_memory
from markov_cot.models.roles import ACTOR, CRITIC, Role
from markov_cot.rewards.reader_models import check_reader_paths
from markov_cot.rewards.readers import fits_context
from markov_cot.rollouts.decode import release
from markov_cot.rollouts.path_check import check_engine, check_paths, trial_of
from markov_cot.tracking.base import RunInfo, Tracker
from markov_cot.tracking.multi import MultiTracker, open_trackers
from markov_cot.tracking.run_log import NOTHING
from markov_cot.training.method import MakeMethod, Merit
from markov_cot.training.reinforcement import Reinforcement
from markov_cot.training.reporting import is_due, shows_samples
from markov_cot.training.setup import Session
from markov_cot.training.state import RunState
from markov_cot.training.supervised import Supervised
from markov_cot.utils.errors import UserError
from markov_cot.utils.hooks import HookError
from markov_cot.utils.profiling import profile_span

logger = logging.getLogger(__name__)

METHODS: dict[str, MakeMethod] = {"rl": Reinforcement, "sft": Supervised}

Observer = Callable[[int, dict[str, float], Sequence[Event]], None]
"""Called with (step, metrics, alarms that changed) after every step."""


@dataclass(frozen=True, slots=True)
class TrainResult:
    """How a run ended; the scores are of base and trained actor on the same unseen problems."""

    run: Run
    """What it left on disk."""
    checkpoint: Path
    """Of its last step."""
    interrupted: bool = False
    alarms: Sequence[Event] = ()
    """The critical ones that stopped it."""
    base: Score | None = None
    trained: Score | None = None


class Trainer:
    """Trains a session's actor; `run` is the loop."""

    def __init__(self, session: Session, method: MakeMethod | None = None, trackers: Sequence[Tracker] = ()) -> None:
        """`method` is used instead of what the config names; `trackers` come beside those that it names."""
        config, policy = session.config, session.policy
        self.session = session
        self._trackers = trackers
        self.processes = session.processes
        self.budgets = TokenBudgets(
            config.optim.micro_batch_tokens, self.processes, session.sharding, lambda: release(policy)
        )
        self.method = (method or METHODS[config.method])(session, self.budgets)
        self.state = RunState(session, self.method.optimizer, self.budgets, self.method.remembered)

    def run(self, watch: Observer, stop_requested: Callable[[], bool] = lambda: False) -> TrainResult:
        """Trains to the last step, out of patience, to a critical alarm or a requested stop; saves at the end.

        What one of several processes is asked to stop for, all stop for.
        """
        return self._run(watch, lambda: self.processes.any(stop_requested()))

    def _run(self, watch: Observer, stop_requested: Callable[[], bool]) -> TrainResult:
        config, state = self.session.config, self.state
        lock = self.session.lock if self.processes.is_first else contextlib.nullcontext()
        with lock, self._open_tracker() as tracker:
            self.check_paths()
            self._start(tracker)
            while state.progress.step < config.steps and not self._out_of_patience() and not stop_requested():
                with self._saving_on(HookError, tracker):
                    metrics, samples = self._timed_step(tracker)
                is_best = self._validate_where_due(metrics, tracker)
                metrics = self.processes.agree(metrics)
                events, failure = self._judge(metrics, samples[0]["cot"])
                self._log(tracker, metrics, samples, events)
                with self._saving_on(Exception, tracker):
                    watch(state.progress.step, metrics, events)
                if config.alarms.own:
                    self._end_where_one_failed(tracker, failure)
                critical = [event for event in events if event.is_critical]
                if critical and config.alarms.action == "rollback" and state.roll_back(critical, tracker):
                    continue
                if critical and config.alarms.action != "continue":
                    state.save(tracker)
                    return self._result(alarms=critical)
                if is_best or self._due(config.checkpoint.every):
                    state.save(tracker)
            state.make_sure_of_saving(tracker)
            return self._result(interrupted=True) if stop_requested() else self._conclude(tracker, stop_requested)

    def _timed_step(self, tracker: MultiTracker) -> tuple[dict[str, float], list[dict[str, Any]]]:
        started = time.perf_counter()
        metrics, samples = self.step(tracker)
        return metrics | {"perf/step_seconds": time.perf_counter() - started}, samples

    def _validate_where_due(self, metrics: dict[str, float], tracker: MultiTracker) -> bool:
        """Adds the held-out score to `metrics` in steps that validate; whether it is the best so far."""
        if not self._due(self.session.config.validation.every):
            return False
        found, merit = self._validate(tracker)
        metrics |= found
        return self.state.progress.note(*merit)

    def _log(
        self,
        tracker: MultiTracker,
        metrics: Mapping[str, float],
        samples: Sequence[Mapping[str, Any]],
        events: Sequence[Event],
    ) -> None:
        with profile_span("logging"):
            step = self.state.progress.step
            tracker.scalars(step, {**metrics, **self.state.monitor.scalars()})
            tracker.alarms(events)
            if shows_samples(self.session.config.tracking, step) or any(event.is_raised for event in events):
                tracker.samples(step, samples)

    @contextlib.contextmanager
    def _saving_on(self, kind: type[Exception], tracker: MultiTracker) -> Iterator[None]:
        """Where the user's own code raises within it, save what was trained before."""
        try:
            yield
        except kind:
            if self.state.progress.step and self.processes.is_first and not self.state.folder.exists():
                self.state.save(tracker)
            raise

    def _judge(self, metrics: Mapping[str, float], cot: str) -> tuple[list[Event], AlarmFailure | None]:
        """The alarms that changed in this step, and what to raise once it is logged and saved."""
        try:
            return self.state.monitor.update(self.state.progress.step, metrics, cot), None
        except AlarmFailure as failure:
            return failure.events, failure

    def _end_where_one_failed(self, tracker: MultiTracker, failure: AlarmFailure | None) -> None:
        """Saves and raises in all processes, when an alarm of the user's own failed in one."""
        if self.processes.any(failure is not None):
            self.state.make_sure_of_saving(tracker)
            with self.processes.together():
                if failure:
                    raise failure

    def _open_tracker(self) -> MultiTracker:
        session, progress = self.session, self.state.progress
        folder = session.folders.run
        tracker = MultiTracker()
        with self.processes.together():
            if self.processes.is_first:
                last = progress.step if progress.started else NOTHING
                settings = flatten(session.config.model_dump(mode="json", exclude={"alarms"}))
                info = RunInfo(folder.name, folder, settings, session.splits.name, last)
                try:
                    tracker = open_trackers(info, session.config.tracking, progress.rollbacks, self._trackers)
                except OSError as error:
                    raise UserError(
                        f"{folder}: cannot be written ({error.strerror}); free space and start again"
                    ) from None
        return tracker

    def check_paths(self) -> None:
        """Makes sure that what the run computes is what its model computes; all processes then compute alike."""
        session, policy = self.session, self.session.policy
        length, prompts = session.config.rollout.length, session.readers.prompts
        fits = partial(fits_context, policy, session.readers, length)
        trial = trial_of(prompts, (session.splits.train, session.held_out), length, fits, trains=True)
        if trial is None:
            return
        # A sharded model's processes compute together, and so all of them refuse what one refuses.
        with contextlib.nullcontext() if session.sharding else self.processes.together():
            check_paths(policy, trial)
            check_reader_paths(session.readers, session.held_out, length)
            if session.engine:
                check_engine(session.engine, policy, trial)
        elsewhere = {path for ruled_out in self.processes.collect(sorted(policy.paths.ruled_out)) for path in ruled_out}
        policy.rule_out(*sorted(elsewhere), reason="it is so in another process")

    def _start(self, tracker: MultiTracker) -> None:
        """What comes before a run's first step, or saves where it goes back to an earlier one."""
        if not self.state.progress.started:
            self._begin(tracker)
        elif self.session.goes_back:
            self.state.save(tracker)  # so that a crash leads back to here, and not to the run as it was

    def _begin(self, tracker: MultiTracker) -> None:
        """The base's held-out score, and a checkpoint to go back to.

        A rollback needs that checkpoint; without rollbacks a disk that refuses it is only a warning.
        """
        if self.session.config.validation.every:
            metrics, _ = self._validate(tracker)
            with self.processes.together():
                self.state.monitor.update(0, metrics)
            if check := self.check_reader():
                metrics |= check.metrics()
                for line in check.warnings():
                    logger.warning(line)
            tracker.scalars(0, metrics)
        self.state.progress.started = True
        if self.session.config.alarms.action == "rollback":
            self.state.make_sure_of_saving(tracker)
        else:
            self.state.save(tracker)

    def check_reader(self) -> ReaderCheck | None:
        """What the readers make of a stated answer and of nothing, before they are trusted with the reward."""
        problems = self.session.held_out[: self.session.config.validation.reader_check]
        if not problems:
            return None
        return check_readers(self.session.readers.within(self.budgets), problems)

    def _conclude(self, tracker: MultiTracker, stop_requested: Callable[[], bool]) -> TrainResult:
        """Scores base and trained actor on the held-out problems kept for the end; a stop puts it off."""
        problems = self.session.held_out[: self.session.config.validation.final_problems]
        base, base_marks = self.score(CRITIC, problems)
        if stop_requested():
            return self._result(interrupted=True)
        trained, trained_marks = self.score(ACTOR, problems)
        tracker.final_answers("base", answer_rows(problems, base_marks))
        tracker.final_answers("trained", answer_rows(problems, trained_marks))
        tracker.finish(
            self.state.progress.step,
            {"step": self.state.progress.step, "best_step": self.state.progress.best_step}
            | {"base": asdict(base), "trained": asdict(trained)},
            {f"hparam/base_{base.measure}": base.value, f"hparam/trained_{base.measure}": trained.value},
        )
        return self._result(base=base, trained=trained)

    def _result(self, **ending: Any) -> TrainResult:
        return TrainResult(Run(self.session.folders.run), self.state.folder, **ending)

    def step(self, tracker: MultiTracker) -> tuple[dict[str, float], list[dict[str, Any]]]:
        """One step of the method in use. Its metrics and samples."""
        session, progress = self.session, self.state.progress
        metrics, report = self.method.learn(progress)
        metrics |= {"perf/peak_memory_bytes": self.processes.largest(float(peak_memory(session.policy.device)))}
        metrics |= {"perf/update_tokens": float(self.budgets.tokens[UPDATE])}
        progress.token_budgets = dict(self.budgets.tokens)
        progress.step += 1
        session.readers.follow(progress.step)
        return metrics, report(progress.step, tracker)

    def score(self, writer: Role, problems: Sequence[Problem]) -> tuple[Score, Marks]:
        """Held-out score of the "actor", or of the "critic" (the untrained base), and the mark of each problem.

        Every process marks a share.
        """
        session, config = self.session, self.session.config
        own = self.processes.part(problems)
        size = len(own) * config.rollout.length
        marks = self.budgets.within(
            SCORE, size, lambda tokens: validate(session.policy, session.readers, own, config, writer, tokens)
        )
        together = [Mark(*mark) for part in self.processes.collect(marks) for mark in part]
        return summarise_marks(together, problems[0].kind), together

    def _validate(self, tracker: MultiTracker) -> tuple[dict[str, float], Merit]:
        """What a validation logs, and what the best checkpoint is best by."""
        problems = self.session.held_out[: self.session.config.validation.problems]
        score, marks = self.score(ACTOR, problems)
        tracker.validation(self.state.progress.step, answer_rows(problems, marks))
        found, merit = self.method.held_out(score)
        return score.metrics(self.session.splits.name) | found, merit

    def _due(self, every: int) -> bool:
        return is_due(every, self.state.progress.step)

    def _out_of_patience(self) -> bool:
        patience = self.session.config.validation.patience
        return patience > 0 and self.state.progress.since_best >= patience
