"""What a run would take, by a few of its steps and validations: nothing is written.

The steps are the run's own: the first, which sets things up; some that score the baseline; and plain ones. What is done
once in a while is timed once and counted.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markov_cot.config.schema import Config
from markov_cot.data.problem import Problem
from markov_cot.evaluation.validation import Marks, answer_rows
from markov_cot.models.memory import peak_memory
from markov_cot.models.roles import ACTOR
from markov_cot.tracking.multi import MultiTracker, check_trackers
from markov_cot.tracking.step_files import render
from markov_cot.training.setup import Session
from markov_cot.training.trainer import Trainer

AT_MOST = 3
"""Steps of a kind that are timed..."""
ENOUGH_SECONDS = 2.0
"""...unless they have taken as long already."""
EVENT_BYTES, SCALAR_BYTES = 40, 12
"""Of a TensorBoard event, and of each of its scalars beside its tag."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a run would take. Units: seconds, bytes."""

    steps: int
    setup_seconds: float
    """Until the first step: imports, data, model, and the check of the ways to compute."""
    steps_seconds: float
    """Of all steps, with the baselines that they score."""
    validation_seconds: float
    """Of all validations while training, and of base and trained actor at the end."""
    saving_seconds: float
    """Of all checkpoints."""
    peak_memory_bytes: int
    checkpoint_bytes: int
    checkpoints: int
    """Most that there are at a time."""
    log_bytes: int
    """Of logs, rollouts, and the copy of the adapter that the run starts from."""
    parameters: int
    trainable_parameters: int

    @property
    def step_seconds(self) -> float:
        """Of a step, on average."""
        return self.steps_seconds / self.steps

    @property
    def total_seconds(self) -> float:
        """From the command to its end."""
        return self.setup_seconds + self.steps_seconds + self.validation_seconds + self.saving_seconds

    @property
    def disk_bytes(self) -> int:
        """Most that the run's files take at a time."""
        return self.checkpoint_bytes * self.checkpoints + self.log_bytes

    def as_json(self) -> dict[str, int | float]:
        """Return what `train --dry-run --json` prints."""
        names = "steps step_seconds total_seconds peak_memory_bytes disk_bytes parameters trainable_parameters"
        return {name: getattr(self, name) for name in names.split()}


def estimate(session: Session, started: float) -> Estimate:
    """Return what the session's run would take, whose command began at `started` (of `time.perf_counter`).

    Trains the session's actor a few steps. Raises `UserError` for what the run would refuse.
    """
    config, largest = session.config, session.processes.largest
    check_trackers(config.tracking)
    trainer, meter = Trainer(session), _Meter()
    trainer.check_paths()
    setup = time.perf_counter() - started
    steps, validations = _time_steps(trainer, meter), _time_validations(trainer, meter)
    saving_started = time.perf_counter()
    checkpoint_bytes = sum(map(len, trainer.state.render().values()))
    saving, saves = time.perf_counter() - saving_started, _saves(config)
    trainable, parameters = session.policy.model.get_nb_trainable_parameters()
    return Estimate(
        steps=config.steps,
        setup_seconds=largest(setup),
        steps_seconds=largest(steps),
        validation_seconds=largest(validations),
        saving_seconds=largest(saving) * saves,
        peak_memory_bytes=int(largest(peak_memory(session.policy.device))),
        checkpoint_bytes=checkpoint_bytes,
        checkpoints=min(saves, config.checkpoint.keep + 2),  # the newest, the best, and one that is being written
        log_bytes=meter.log_bytes(config) + (session.init.size if session.init else 0),
        parameters=parameters,
        trainable_parameters=trainable,
    )


class _Meter(MultiTracker):
    """Measures what would be written."""

    def __init__(self) -> None:
        super().__init__()
        self._line: dict[str, Any] = {}
        self._rows: list[Mapping[str, Any]] = []
        self._rollout_bytes = 0
        self._bytes_a_problem = 0.0

    def rollouts(self, step: int, rows: Iterable[Mapping[str, Any]]) -> None:
        """Those of one step."""
        self._rollout_bytes = len(render(rows))

    def answered(self, problems: Sequence[Problem], marks: Marks) -> None:
        """Held-out problems, as a validation answers them."""
        self._bytes_a_problem = len(render(answer_rows(problems, marks))) / len(problems)

    def take(self, line: dict[str, Any], rows: Iterable[Mapping[str, Any]]) -> None:
        """A step's line of the log, and its sample CoTs."""
        self._line, self._rows = line, list(rows)

    def log_bytes(self, config: Config) -> int:
        """Of all that a run logs."""
        of_line, of_samples = _json_bytes([self._line]), _json_bytes(self._rows)
        if "tensorboard" in config.tracking.trackers:
            of_line += EVENT_BYTES + sum(len(key) + SCALAR_BYTES for key in self._line)
            of_samples *= 2
        shown = 1 + config.steps // config.tracking.samples_every
        kept = config.steps // config.tracking.rollouts if config.tracking.rollouts else 0
        logs = config.steps * of_line + shown * of_samples + kept * self._rollout_bytes
        return logs + round(self._answered(config) * self._bytes_a_problem)

    def _answered(self, config: Config) -> int:
        """Held-out problems whose answers are kept, each as often as it is answered."""
        validation = config.validation
        if not config.tracking.validations:
            return 0
        validations = 1 + config.steps // validation.every if validation.every else 0
        return 2 * validation.final_problems + validations * validation.problems


def _json_bytes(rows: Iterable[Mapping[str, Any]]) -> int:
    return sum(len(json.dumps(row)) + 1 for row in rows)


def _time_steps(trainer: Trainer, meter: _Meter) -> float:
    """Seconds of all steps."""
    config = trainer.session.config
    every, rollouts = config.reward.baseline_every, config.tracking.rollouts

    def timed(step: int) -> float:
        trainer.state.progress.step = step
        started = time.perf_counter()
        metrics, rows = trainer.step(meter)
        seconds = time.perf_counter() - started
        meter.take({"step": step, **metrics, **trainer.state.monitor.scalars()}, rows)
        return seconds

    def on_average(steps: Iterable[int]) -> float:
        """Of the first few; 0 where there are none."""
        seconds: list[float] = []
        for step in steps:
            seconds.append(timed(step))
            if len(seconds) == AT_MOST or sum(seconds) > ENOUGH_SECONDS:
                break
        return sum(seconds) / max(1, len(seconds))

    first = timed(0)
    plain = on_average(range(1, min(every, config.steps)))
    with_baseline = on_average(range(every, config.steps, every))
    if 1 < rollouts <= config.steps:
        timed(rollouts - 1)  # after which they are kept
    baselines = -(-config.steps // every)
    return first + (baselines - 1) * with_baseline + (config.steps - baselines) * plain


def _time_validations(trainer: Trainer, meter: _Meter) -> float:
    """Seconds of all of them, the two at the end included."""
    session, validation = trainer.session, trainer.session.config.validation

    def seconds(problems: int) -> float:
        """Of one with so many, by as many of them as are read at once."""
        count = min(problems, len(session.held_out))
        part = session.held_out[: min(count, validation.batch * session.processes.count)]
        started = time.perf_counter()
        _, marks = trainer.score(ACTOR, part)
        elapsed = time.perf_counter() - started
        meter.answered(part, marks)
        return elapsed * count / len(part)

    while_training = 0.0
    if validation.every:
        started = time.perf_counter()
        trainer.check_reader()
        while_training = time.perf_counter() - started
        while_training += (1 + session.config.steps // validation.every) * seconds(validation.problems)
    return while_training + 2 * seconds(validation.final_problems)


def _saves(config: Config) -> int:
    """Checkpoints that are written if every validation is the best so far."""
    steps = {0, config.steps, *range(0, config.steps + 1, config.checkpoint.every)}
    if config.validation.every:
        steps.update(range(0, config.steps + 1, config.validation.every))
    return len(steps)
