"""What `markov-cot train` says at its end: how to continue, and what to type next."""

from __future__ import annotations

from markov_cot.checkpoints.checkpoint import BEST
from markov_cot.cli.again import beside_python, diagnose, look_at, train_again, train_on
from markov_cot.cli.alarm_lines import way_back
from markov_cot.config.loading import by_key
from markov_cot.evaluation.validation import Score
from markov_cot.training.options import resolve_config
from markov_cot.training.trainer import Trainer, TrainResult
from markov_cot.training.worked import SFT

SHAPES_COTS = ("data.", "model.", "prompt.", "rollout.length")
"""Beginnings of the settings that a warm start and what comes after it have in common."""


def after_interruption(trainer: Trainer) -> list[str]:
    """Where the run is saved, and the command that continues it."""
    run, config = trainer.session.folders.run.name, trainer.session.config
    return [f"interrupted; saved {trainer.state.folder}. To continue: {train_again(run, config)}"]


def after_alarms(trainer: Trainer, outcome: TrainResult) -> list[str]:
    """What stopped the run, and the command that continues from before it with a setting changed."""
    run, config = trainer.session.folders.run.name, trainer.session.config
    names = [event.alarm for event in outcome.alarms]
    where = f"saved {trainer.state.folder}" if trainer.state.folder.exists() else "this step could not be saved"
    stopped = f"stopped by a critical alarm ({', '.join(names)}); {where}"
    healthy = trainer.state.last_healthy(outcome.alarms)
    if healthy is None:
        return [stopped, "No checkpoint from before it is kept; start another --run with what is advised."]
    return [stopped, *way_back(run, config, healthy.name, names, trainer.state.monitor.known)]


def after_the_end(trainer: Trainer, score: Score) -> list[str]:
    """Where the checkpoints are, and what to type next. `score` is one of the final ones."""
    folder, config = trainer.session.folders.run, trainer.session.config
    lines = [f"checkpoint: {trainer.state.folder}"]
    if best := trainer.state.progress.best_step:
        chosen = f"by {trainer.method.best_by(score)} on {_validated(trainer)} of the validation problems"
        lines.append(f"best while training, {chosen}: step {best}, {trainer.state.folder.with_name('best')}")
    return [
        *lines,
        *([f"by reward:   {by_reward(trainer)}"] if config.method == SFT else []),
        f"test split:  {look_at('eval', folder.name, config)}",
        f"samples:     {look_at('sample', folder.name, config)}",
        f"alarms:      {diagnose(folder.name, config)}",
        f"curves:      {beside_python('tensorboard')} --logdir {folder.parent}",
    ]


def by_reward(trainer: Trainer) -> str:
    """The command that continues a warm start by reward, on the same data and with the same prompts."""
    config, best = trainer.session.config, trainer.state.folder.with_name(BEST)
    usual, _ = resolve_config(None, {"data.dataset": config.data.dataset, "model.name": config.model.name})
    before, now = (by_key(each.model_dump(mode="json")) for each in (usual, config))
    changes = {key: now[key] for key in now if key.startswith(SHAPES_COTS) and now[key] != before[key]}
    return train_on(config, best if best.exists() else trainer.state.folder, changes)


def _validated(trainer: Trainer) -> int:
    """How many problems the best checkpoint is best by."""
    session = trainer.session
    if session.worked and session.config.sft.best == "loss":
        return len(session.worked.held_out)
    return min(session.config.validation.problems, len(session.held_out))
