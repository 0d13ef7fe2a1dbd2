"""The training loop.

Shapes: P problems, G samples per problem, B = P*G sequences (problem-major), L CoT tokens. Units: nats.
"""

from __future__ import annotations

import contextlib
import logging
import resource
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from markov_cot import checkpoints
from markov_cot.advantages import History
from markov_cot.alarms.monitor import Event, Monitor
from markov_cot.collection import Collector, Experience
from markov_cot.config import flatten
from markov_cot.errors import UserError
from markov_cot.evaluation.validation import Score, summarise_marks, validate
from markov_cot.losses import Weights, adapted_kl_weight
from markov_cot.manifest import STATE, Manifest, read_manifest
from markov_cot.memory import SCORE, UPDATE, TokenBudgets
from markov_cot.metrics import cot_metrics
from markov_cot.phases import phase
from markov_cot.resuming import software
from markov_cot.rewards import answer_contexts
from markov_cot.session import Session, learning_rate
from markov_cot.tasks.problem import Problem
from markov_cot.tracking import NOTHING, Silent, Tracker
from markov_cot.updates import Updater

logger = logging.getLogger(__name__)

SAMPLES_SHOWN = 3
LEAD_SHARE = 8
"""`leak/answer_logprob_cut` keeps the first L / LEAD_SHARE tokens of a CoT."""

Watcher = Callable[[int, dict[str, float], Sequence[Event]], None]
"""Called with (step, metrics, alarms that changed) after every step."""


@dataclass
class Progress:
    """What changes from step to step besides parameters, optimizer and alarms; saved in checkpoints as JSON."""

    step: int = 0
    started: bool = False
    """Whether what comes before the first step is done."""
    best: float | None = None
    best_step: int = 0
    since_best: int = 0
    kl_weight: float | None = None
    """Adapted beta; None until the first step."""
    lr_scale: float = 1.0
    """Product of the factors of all rollbacks."""
    rollbacks: int = 0
    rolled_back_to: int | None = None
    """Step the last rollback went to."""
    history: History = field(default_factory=History)
    token_budgets: dict[str, int] = field(default_factory=dict)
    """What was found to fit into memory, by phase; empty until the first step."""

    def note(self, score: Score) -> bool:
        """Takes in a validation at the current step; whether it is the best so far."""
        is_best = self.best is None or score.value > self.best
        if is_best:
            self.best, self.best_step, self.since_best = score.value, self.step, 0
        else:
            self.since_best += 1
        return is_best

    @staticmethod
    def from_json(values: dict[str, Any]) -> Progress:
        """From `asdict` of an earlier one."""
        return Progress(**{**values, "history": History(**values["history"])})


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended; the scores are of base and trained actor on the same unseen problems."""

    interrupted: bool = False
    alarms: Sequence[Event] = ()
    """The critical ones that stopped it."""
    base: Score | None = None
    trained: Score | None = None


class Trainer:
    """Trains a session's actor; `run` is the loop."""

    def __init__(self, session: Session) -> None:
        config, policy = session.config, session.policy
        self.session = session
        self.progress = Progress()
        self.processes = session.processes
        self.budgets = TokenBudgets(config.optim.micro_batch_tokens, self.processes, session.sharding)
        self.updater = Updater(policy, config, self.budgets, self.processes, session.sharding)
        self.collector = Collector(policy, session.prompts, config, self.budgets, self.processes)
        self.monitor = self._new_monitor()

    def run(self, watch: Watcher, stop_requested: Callable[[], bool] = lambda: False) -> Outcome:
        """Trains to the last step, out of patience, to a critical alarm or a requested stop; saves at the end.

        What one of several processes is asked to stop for, all stop for.
        """
        return self._run(watch, lambda: self.processes.any(stop_requested()))

    def _run(self, watch: Watcher, stop_requested: Callable[[], bool]) -> Outcome:
        config, name = self.session.config, self.session.splits.name
        lock = self.session.lock if self.processes.is_first else contextlib.nullcontext()
        with lock, self._open_tracker() as tracker:
            if not self.progress.started:
                self._start(tracker)
            while self.progress.step < config.steps and not self._out_of_patience() and not stop_requested():
                started = time.perf_counter()
                metrics, example = self.step(tracker)
                metrics["perf/step_seconds"] = time.perf_counter() - started
                is_best = False
                if self._due(config.validation.every):
                    score = self._validate()
                    is_best = self.progress.note(score)
                    metrics |= score.metrics(name)
                metrics = self.processes.agree(metrics)
                events = self.monitor.update(self.progress.step, metrics, example)
                with phase("logging"):
                    tracker.scalars(self.progress.step, metrics | self.monitor.scalars())
                    tracker.alarms(events)
                watch(self.progress.step, metrics, events)
                critical = [event for event in events if event.is_critical]
                if critical and config.alarms.action == "rollback" and self._roll_back(critical, tracker):
                    continue
                if critical and config.alarms.action != "continue":
                    self.save(tracker)
                    return Outcome(alarms=critical)
                if is_best or self._due(config.checkpoint.every):
                    self.save(tracker)
            self._make_sure_of_saving(tracker)
            return Outcome(interrupted=True) if stop_requested() else self._conclude(tracker, stop_requested)

    def _open_tracker(self) -> Tracker:
        folder, progress = self.session.folders.run, self.progress
        with self.processes.together():
            if not self.processes.is_first:
                tracker: Tracker = Silent()
            else:
                try:
                    tracker = Tracker(folder, progress.step if progress.started else NOTHING, progress.rollbacks)
                except OSError as error:
                    raise UserError(
                        f"{folder}: cannot be written ({error.strerror}); free space and start again"
                    ) from None
        return tracker

    def _start(self, tracker: Tracker) -> None:
        """What is done before the first step: the base's held-out score, and a checkpoint to roll back to."""
        if self.session.config.validation.every:
            tracker.scalars(0, self._validate().metrics(self.session.splits.name))
        self.progress.started = True
        if self.session.config.alarms.action == "rollback":
            self._make_sure_of_saving(tracker)

    def _conclude(self, tracker: Tracker, stop_requested: Callable[[], bool]) -> Outcome:
        """Scores base and trained actor on the held-out problems kept for the end; a stop puts it off."""
        problems = self.session.held_out[: self.session.config.validation.final_problems]
        base = self.score("critic", problems)
        if stop_requested():
            return Outcome(interrupted=True)
        trained = self.score("actor", problems)
        tracker.outcome(
            self.progress.step,
            flatten(self.session.config.model_dump(mode="json", exclude={"alarms"})),
            {"step": self.progress.step, "best_step": self.progress.best_step}
            | {"base": asdict(base), "trained": asdict(trained)},
            {f"hparam/base_{base.measure}": base.value, f"hparam/trained_{base.measure}": trained.value},
        )
        return Outcome(base=base, trained=trained)

    def step(self, tracker: Tracker) -> tuple[dict[str, float], str]:
        """One step: questions -> CoTs -> rewards -> advantages -> loss -> parameters. Its metrics and one CoT."""
        session, config, progress = self.session, self.session.config, self.progress
        problems = session.shuffle.batch(progress.step, config.rollout.problems)
        experience, progress.history, metrics = self.collector.collect(problems, progress.step, progress.history)
        metrics |= self._leak(problems, experience)
        weights = self._weights()
        lr = learning_rate(config, progress.step) * progress.lr_scale
        metrics |= self.updater.update(experience, weights, lr, progress.step)
        metrics |= {"data/too_long": float(len(session.shuffle.too_long)), "loss/kl_weight": weights.kl}
        metrics |= {"perf/peak_memory_bytes": self.processes.largest(float(peak_memory(session.policy.device)))}
        metrics |= {"perf/update_tokens": float(self.budgets.tokens[UPDATE])}
        progress.token_budgets = dict(self.budgets.tokens)
        if config.algorithm.kl_target:
            progress.kl_weight = adapted_kl_weight(weights.kl, metrics["policy/kl"], config.algorithm.kl_target)
        progress.step += 1
        cots, samples = experience.rollouts.cot_BL.tolist(), config.rollout.samples
        own = [cots[i] for i in experience.own]
        own_texts = session.policy.tokenizer.batch_decode(own)
        metrics |= self.processes.mean(cot_metrics(own, own_texts, self.processes.part(problems)))
        texts = session.policy.tokenizer.batch_decode(cots[: SAMPLES_SHOWN * samples : samples])
        if self._due(config.tracking.samples_every) or progress.step == 1:
            histograms = {
                "reward/histogram": experience.reward_B,
                "advantage/histogram": experience.advantages.advantage_B,
            }
            tracker.histograms(progress.step, histograms)
            tracker.samples(progress.step, _sample_rows(problems, texts, experience))
        return metrics, texts[0]

    def _weights(self) -> Weights:
        """Coefficients of the loss's terms at the current step."""
        algorithm, step = self.session.config.algorithm, self.progress.step
        ramp = min(1.0, (step + 1) / algorithm.actor_reward_ramp) if algorithm.actor_reward_ramp else 1.0
        kl = algorithm.kl_weight if self.progress.kl_weight is None else self.progress.kl_weight
        return Weights(kl, ramp * algorithm.actor_reward_weight, algorithm.entropy_weight)

    def _leak(self, problems: Sequence[Problem], experience: Experience) -> dict[str, float]:
        """Answer log-prob from the beginnings of the CoTs, on the steps that score the baseline."""
        config = self.session.config
        if self.progress.step % config.reward.baseline_every:
            return {}
        cots, own = experience.rollouts.cot_BL.tolist(), self.processes.part(problems)
        beginnings = [cots[i][: len(cots[i]) // LEAD_SHARE] for i in experience.own]
        contexts = answer_contexts(self.session.prompts, own, beginnings, config.rollout.samples)
        scores_B = self.processes.gather(self.collector.score(contexts))
        return {"leak/answer_logprob_cut": scores_B.mean().item()}

    def _roll_back(self, critical: Sequence[Event], tracker: Tracker) -> bool:
        """Goes back to the last checkpoint from before what the alarms saw began; further back the next time.

        False when the limit is reached, or when no checkpoint that old is kept.
        """
        config, rollbacks = self.session.config, self.progress.rollbacks
        folders = checkpoints.list_steps(self.session.folders.checkpoints)
        # A step's metrics are of the policy that sampled, which is the one saved a step before.
        last = max(0, min(event.since for event in critical) - 2)
        steps = self.processes.agree([step for step in map(checkpoints.step_of, folders) if step <= last])
        if len(steps) > 1 and steps[-1] == self.progress.rolled_back_to:
            steps.pop()  # the rot began before it
        if rollbacks == config.alarms.rollback_limit or not steps:
            return False
        lr_scale = self.progress.lr_scale * config.alarms.rollback_lr_factor
        with self.processes.together():  # so that nothing is discarded before all have read
            self._restore(self.session.folders.checkpoints / f"adapter_{steps[-1]}")
        self.progress.rollbacks, self.progress.lr_scale = rollbacks + 1, lr_scale
        self.progress.rolled_back_to = self.progress.step
        # In this order, so that a crash in between leads back to the alarm, and from there here again.
        if self.processes.is_first:
            checkpoints.discard_after(self.session.folders.checkpoints, self.progress.step)
        tracker.rewind(self.progress.step, self.progress.rollbacks)
        self.save(tracker)
        return True

    def _new_monitor(self) -> Monitor:
        config = self.session.config
        return Monitor(config.alarms, flatten(config.model_dump(mode="json")))

    def save(self, tracker: Tracker) -> None:
        """Writes a checkpoint of the current step and points `latest`, and `best` if it is, at it.

        The first process writes. What the disk refuses is a warning: training goes on, and the earlier checkpoints
        stay.
        """
        if not self.processes.is_first:
            return
        session, folder = self.session, self.folder
        state = {
            "progress": asdict(self.progress),
            "alarms": self.monitor.state_dict(),
            "too_long": sorted(session.shuffle.too_long),
            "baselines": self.collector.baseline.known,
        }
        config = session.config.model_dump(mode="json")
        about = Manifest(self.progress.step, config, session.base, session.data, software(), files={})
        try:
            tracker.sync()
            checkpoints.save(folder, session.policy.model, self.updater.optimizer, state, about)
            checkpoints.point(folder.with_name(checkpoints.LATEST), folder)
            if self.progress.best is not None and self.progress.best_step == self.progress.step:
                checkpoints.point(folder.with_name(checkpoints.BEST), folder)
            checkpoints.prune(folder.parent, session.config.checkpoint.keep)
        except OSError as error:
            logger.warning(
                "%s: could not be saved (%s); training goes on, earlier checkpoints are kept", folder, error.strerror
            )

    def _make_sure_of_saving(self, tracker: Tracker) -> None:
        """Saves the current step unless it is saved. Raises `UserError` when the disk refuses."""
        run = self.session.folders.run.name
        with self.processes.together():
            if self.processes.is_first and not self.folder.exists():
                self.save(tracker)
                if not self.folder.exists():
                    raise UserError(
                        f"run {run}: step {self.progress.step} is not saved; free space, then --run {run} --resume"
                    )

    def resume(self) -> None:
        """Goes on from the session's origin, or from the start when no checkpoint was written yet."""
        origin = self.session.origin
        if origin:
            with self.processes.together():
                self._restore(origin)
            if self.processes.is_first:
                checkpoints.point_again(origin.parent, origin, self.progress.best_step)

    def _restore(self, folder: Path) -> None:
        """Takes adapter, optimizer, progress and alarms from a checkpoint."""
        session = self.session
        manifest = read_manifest(folder)
        checkpoints.check_base(folder, manifest.base, session.base["name"], session.base["fingerprint"])
        checkpoints.load_adapter(folder, session.policy.model)
        state = checkpoints.load_trainer_state(folder, session.policy.model, self.updater.optimizer)
        self.monitor = self._new_monitor()
        try:
            self.progress = Progress.from_json(state["progress"])
            self.budgets.tokens |= self.progress.token_budgets
            self.monitor.load_state_dict(state["alarms"])
            if not session.changed:  # else what fitted then may not fit now, and a baseline be another
                session.shuffle.too_long |= set(state["too_long"])
                self.collector.baseline.known = dict(state["baselines"])
        except (KeyError, TypeError, AttributeError):
            raise UserError(f"checkpoint {folder}: {STATE} is not a trainer's state; use another checkpoint") from None
        if self.progress.step != manifest.step:
            raise UserError(f"checkpoint {folder}: {STATE} is of another step; use another checkpoint")

    def score(self, writer: str, problems: Sequence[Problem]) -> Score:
        """Held-out score of the "actor", or of the "critic" (the untrained base). Every process marks a share."""
        session, config = self.session, self.session.config
        own = self.processes.part(problems)
        size = len(own) * config.rollout.length
        marks = self.budgets.within(
            SCORE, size, lambda tokens: validate(session.policy, session.prompts, own, config, writer, tokens)
        )
        return summarise_marks([mark for part in self.processes.collect(marks) for mark in part], problems[0].kind)

    def _validate(self) -> Score:
        return self.score("actor", self.session.held_out[: self.session.config.validation.problems])

    def _due(self, every: int) -> bool:
        return every > 0 and self.progress.step % every == 0

    def _out_of_patience(self) -> bool:
        patience = self.session.config.validation.patience
        return patience > 0 and self.progress.since_best >= patience

    @property
    def folder(self) -> Path:
        """Checkpoint folder of the current step."""
        return self.session.folders.checkpoints / f"adapter_{self.progress.step}"


def peak_memory(device: torch.device) -> int:
    """Most bytes in use so far: of the GPU, or of the process's resident memory."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _sample_rows(problems: Sequence[Problem], texts: Sequence[str], experience: Experience) -> list[dict[str, Any]]:
    """The first sample of the first problems, of which `texts` are the CoTs."""
    samples = experience.rollouts.samples
    return [
        {
            "question": problem.question or problem.passage,
            "answer": problem.answer,
            "cot": texts[i],
            "answer_logprob": round(experience.reward_B[i * samples].item(), 4),
        }
        for i, problem in enumerate(problems[:SAMPLES_SHOWN])
    ]
