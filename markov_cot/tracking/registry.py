"""The trackers that `tracking.trackers` may name. Each is imported only when it is used."""

from __future__ import annotations

import importlib
from typing import Any

from markov_cot.tracking.base import RunInfo, Tracker, TrackerFactory
from markov_cot.utils.errors import UserError
from markov_cot.utils.plugins import Registry


def tensorboard(run: RunInfo, **args: Any) -> Tracker:
    """Event files in the run's folder."""
    return _built_in("tensorboard")(run, **args)


def wandb(run: RunInfo, **args: Any) -> Tracker:
    """Weights & Biases; `WANDB_MODE=offline` writes to the run's folder."""
    return _built_in("wandb")(run, **args)


def mlflow(run: RunInfo, **args: Any) -> Tracker:
    """MLflow, at `tracking_uri` or where MLFLOW_TRACKING_URI says."""
    return _built_in("mlflow")(run, **args)


def trackio(run: RunInfo, **args: Any) -> Tracker:
    """Trackio, whose database is local unless `space_id` names a Space."""
    return _built_in("trackio")(run, **args)


TRACKERS: Registry[TrackerFactory] = Registry(
    "tracker", {"tensorboard": tensorboard, "wandb": wandb, "mlflow": mlflow, "trackio": trackio}
)
_CLASSES = {
    "tensorboard": "TensorBoardTracker",
    "wandb": "WandbTracker",
    "mlflow": "MlflowTracker",
    "trackio": "TrackioTracker",
}
_EXTRAS = ("wandb", "mlflow", "trackio")


def import_tracker(name: str) -> None:
    """Import what a tracker needs, without opening it.

    Raises `UserError` where an extra is not installed, or code of the user's own is not found.
    """
    if name in _CLASSES:
        _built_in(name)
    else:
        TRACKERS.resolve(name)


def _built_in(name: str) -> TrackerFactory:
    try:
        found: TrackerFactory = getattr(importlib.import_module(f"markov_cot.tracking.{name}"), _CLASSES[name])
    except ImportError as error:
        if name not in _EXTRAS:
            raise
        raise UserError(
            f"tracker {name}: cannot be imported ({error}); pip install 'markov-cot[{name}]', or leave it out of "
            "tracking.trackers"
        ) from None
    return found
