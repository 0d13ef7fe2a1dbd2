"""All of a run that changes from step to step: what its checkpoints hold, and how it gets there and back."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from markov_cot.alarms.gauge import CRITICAL
from markov_cot.alarms.monitor import Event, Monitor, healthy_until
from markov_cot.alarms.own import load_own
from markov_cot.checkpoints import checkpoint as checkpoints
from markov_cot.checkpoints import contents
from markov_cot.checkpoints.manifest import STATE, Manifest, read_manifest
from markov_cot.checkpoints.origin import abandon_after
from markov_cot.checkpoints.resume import software
from markov_cot.config.loading import flatten
from markov_cot.models.memory import TokenBudgets
from markov_cot.tracking.multi import MultiTracker
from markov_cot.tracking.run_log import most_rollbacks
from markov_cot.training.method import Remembered
from markov_cot.training.progress import Progress
from markov_cot.training.setup import Session
from markov_cot.utils.errors import UserError
from markov_cot.utils.layout import ALARMS

logger = logging.getLogger(__name__)


class RunState:
    """Progress, alarms, adapter, optimizer and what is remembered for speed; saved, restored and rolled back as one."""

    def __init__(
        self, session: Session, optimizer: torch.optim.Optimizer, budgets: TokenBudgets, remembered: Remembered
    ) -> None:
        self._session, self._processes = session, session.processes
        self._optimizer, self._budgets, self._remembered = optimizer, budgets, remembered
        self.progress = Progress()
        self._own_alarms = load_own(session.config.alarms)
        self.monitor = self._new_monitor()

    @property
    def folder(self) -> Path:
        """Checkpoint folder of the current step."""
        return self._session.folders.checkpoints / f"adapter_{self.progress.step}"

    def save(self, tracker: MultiTracker) -> None:
        """Writes a checkpoint of the current step and points `latest`, and `best` if it is, at it.

        The first process writes. What the disk refuses is a warning: training goes on, and the earlier checkpoints
        stay.
        """
        if not self._processes.is_first:
            return
        session, folder = self._session, self.folder
        fault = "could not be saved"
        try:
            tracker.sync()
            checkpoints.write(folder, self.render())
            fault = "was saved, but links and earlier checkpoints were not brought up to date"
            checkpoints.point(folder.with_name(checkpoints.LATEST), folder)
            if self.progress.best is not None and self.progress.best_step == self.progress.step:
                checkpoints.point(folder.with_name(checkpoints.BEST), folder)
            # An alarm that is on its way may turn critical, and one may begin with the next step.
            onsets = {self.progress.step + 1, *self.monitor.onsets()}
            checkpoints.prune(folder.parent, session.config.checkpoint.keep, map(healthy_until, onsets))
        except OSError as error:
            logger.warning("%s: %s (%s); training goes on, earlier checkpoints are kept", folder, fault, error.strerror)

    def render(self) -> dict[str, bytes]:
        """The files of a checkpoint of the current step."""
        session = self._session
        state = {
            "progress": asdict(self.progress),
            "alarms": self.monitor.state_dict(),
            "too_long": sorted(session.shuffle.too_long),
            "baselines": self._remembered.known,
        }
        about = Manifest(
            step=self.progress.step,
            config=session.config.model_dump(mode="json"),
            base=session.base,
            data=session.data,
            software=software(session.config),
            files={},
            init=session.init.about if session.init else {},
            readers=session.reader_models,
        )
        lag = session.readers.lag
        return contents.render(session.policy.model, self._optimizer, state, about, lag.values if lag else {})

    def make_sure_of_saving(self, tracker: MultiTracker) -> None:
        """Saves the current step unless it is saved. Raises `UserError` when the disk refuses."""
        run = self._session.folders.run.name
        with self._processes.together():
            if self._processes.is_first and not self.folder.exists():
                self.save(tracker)
                if not self.folder.exists():
                    raise UserError(
                        f"run {run}: step {self.progress.step} is not saved; free space, then --run {run} --resume"
                    )

    def resume(self) -> None:
        """Continues from the session's origin, or from the start when no checkpoint was written yet.

        Where the run goes back, the later checkpoints are set aside. As after a rollback, the alarms from before stay.
        """
        origin = self._session.origin
        if not origin:
            return
        with self._processes.together():
            self._restore(origin)
        if self._session.goes_back:
            self._count_return()
        if self._processes.is_first:
            if self._session.goes_back:
                abandon_after(origin.parent, self.progress.step)
            checkpoints.point_again(origin.parent, origin, self.progress.best_step)

    def last_healthy(self, critical: Sequence[Event]) -> Path | None:
        """The checkpoint to go back to: the last one from before what the critical alarms saw began.

        One further back when the run went back to that one already. None when no checkpoint that old is kept.
        """
        steps = self._healthy_steps(critical)
        return self.folder.with_name(f"adapter_{steps[-1]}") if steps else None

    def roll_back(self, critical: Sequence[Event], tracker: MultiTracker) -> bool:
        """Goes back to the last healthy checkpoint; further back the next time.

        False when the limit is reached, or when no checkpoint that old is kept.
        """
        config, rollbacks = self._session.config, self.progress.rollbacks
        steps = self._processes.agree(self._healthy_steps(critical))
        if rollbacks - self.progress.returns >= config.alarms.rollback_limit or not steps:
            return False
        lr_scale, returns = self.progress.lr_scale * config.alarms.rollback_lr_factor, self.progress.returns
        with self._processes.together():  # so that nothing is discarded before all have read
            self._restore(self._session.folders.checkpoints / f"adapter_{steps[-1]}")
        self.progress.rollbacks, self.progress.lr_scale = rollbacks + 1, lr_scale
        self.progress.returns, self.progress.rolled_back_to = returns, self.progress.step
        # In this order, so that a crash in between leads back to the alarm, and from there here again.
        if self._processes.is_first:
            checkpoints.discard_after(self.folder.parent, self.progress.step)
            checkpoints.point_again(self.folder.parent, self.folder, self.progress.best_step)
        tracker.rewind(self.progress.step, self.progress.rollbacks)
        self.save(tracker)
        return True

    def _count_return(self) -> None:
        """Numbers the run's next stretch above all that its alarms are from, so that none of them is taken for it."""
        before = self.progress.rollbacks
        logged = self._processes.agree(most_rollbacks(self._session.folders.run / ALARMS))
        self.progress.rollbacks = max(before, logged) + 1
        self.progress.returns += self.progress.rollbacks - before
        self.progress.rolled_back_to = self.progress.step

    def _healthy_steps(self, critical: Sequence[Event]) -> list[int]:
        """Steps of the kept checkpoints that the run may go back to, the best one last."""
        last = healthy_until(min({event.since for event in critical} | self.monitor.onsets(CRITICAL)))
        folders = checkpoints.list_steps(self._session.folders.checkpoints)
        steps = [step for step in map(checkpoints.step_of, folders) if step <= last]
        if len(steps) > 1 and steps[-1] == self.progress.rolled_back_to:
            steps.pop()  # the rot began before it
        return steps

    def _restore(self, folder: Path) -> None:
        """Takes adapter, optimizer, progress and alarms from a checkpoint."""
        session = self._session
        manifest = read_manifest(folder)
        checkpoints.check_base(folder, manifest.base, session.base["name"], session.base["fingerprint"])
        contents.load_adapter(folder, session.policy.model)
        state = contents.load_trainer_state(folder, session.policy.model, self._optimizer)
        if session.readers.lag:
            session.readers.set_lag(contents.load_lagged(folder))
        self.monitor = self._new_monitor()
        try:
            self.progress = Progress.from_json(state["progress"])
            if manifest.config["optim"]["micro_batch_tokens"] == session.config.optim.micro_batch_tokens:
                self._budgets.tokens |= self.progress.token_budgets
            self.monitor.load_state_dict(state["alarms"])
            if not session.changed:  # else what fitted then may not fit now, and a baseline be another
                session.shuffle.too_long |= set(state["too_long"])
                self._remembered.known = dict(state["baselines"])
        except (KeyError, TypeError, AttributeError):
            raise UserError(f"checkpoint {folder}: {STATE} is not a trainer's state; use another checkpoint") from None
        if self.progress.step != manifest.step:
            raise UserError(f"checkpoint {folder}: {STATE} is of another step; use another checkpoint")

    def _new_monitor(self) -> Monitor:
        config = self._session.config
        return Monitor(config.alarms, flatten(config.model_dump(mode="json")), own=self._own_alarms)
