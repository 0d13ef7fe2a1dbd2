"""The trackers that `tracking.trackers` may name. Each is imported only when it is used."""

from __future__ import annotations

from typing import Any

from markov_cot.tracking.base import RunInfo, Tracker, TrackerFactory
from markov_cot.utils.errors import UserError
from markov_cot.utils.plugins import Registry


def tensorboard(run: RunInfo, **args: Any) -> Tracker:
    """Event files in the run's folder."""
    from markov_cot.tracking.tensorboard import TensorBoardTracker

    return TensorBoardTracker(run, **args)


def wandb(run: RunInfo, **args: Any) -> Tracker:
    """Weights & Biases; `WANDB_MODE=offline` writes to the run's folder."""
    try:
        from markov_cot.tracking.wandb import WandbTracker
    except ImportError as error:
        raise _not_installed("wandb", error) from None
    return WandbTracker(run, **args)


def mlflow(run: RunInfo, **args: Any) -> Tracker:
    """MLflow, at `tracking_uri` or where MLFLOW_TRACKING_URI says."""
    try:
        from markov_cot.tracking.mlflow import MlflowTracker
    except ImportError as error:
        raise _not_installed("mlflow", error) from None
    return MlflowTracker(run, **args)


def trackio(run: RunInfo, **args: Any) -> Tracker:
    """Trackio, whose database is local unless `space_id` names a Space."""
    try:
        from markov_cot.tracking.trackio import TrackioTracker
    except ImportError as error:
        raise _not_installed("trackio", error) from None
    return TrackioTracker(run, **args)


TRACKERS: Registry[TrackerFactory] = Registry(
    "tracker", {"tensorboard": tensorboard, "wandb": wandb, "mlflow": mlflow, "trackio": trackio}
)


def _not_installed(name: str, error: ImportError) -> UserError:
    return UserError(
        f"tracker {name}: cannot be imported ({error}); pip install 'markov-cot[{name}]', or leave it out of "
        "tracking.trackers"
    )
