"""What a tracker is: anything that takes in a run's scalars.

Each method is called by the first process only, after the line of log.jsonl is written. A tracker that raises is named
once and left out, and the run continues.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from markov_cot.alarms.monitor import Event


@dataclass(frozen=True, slots=True)
class RunInfo:
    """The run that a tracker is opened for."""

    name: str
    folder: Path
    """`runs/<run>`; everything logged up to `step` is in its JSONL files."""
    settings: Mapping[str, Any]
    """The resolved config, flat ("optim.lr")."""
    dataset: str
    """As in the keys `eval/<dataset>/...`."""
    step: int
    """Last step that is logged already, `NOTHING` for a new run."""


@runtime_checkable
class Tracker(Protocol):
    """What every tracker has. It may have any method of `FullTracker` besides."""

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Take in the metrics of one step; values may be NaN or infinite."""

    def close(self) -> None:
        """Write what is left; the run has ended or is interrupted."""


@runtime_checkable
class FullTracker(Tracker, Protocol):
    """All that a tracker may take in."""

    def samples(self, step: int, rows: Sequence[Mapping[str, Any]]) -> None:
        """Take in sample CoTs: `question`, `answer`, `cot`, `answer_logprob`."""

    def alarms(self, events: Sequence[Event]) -> None:
        """Take in alarms whose level changed, diagnosis included."""

    def histograms(self, step: int, values: Mapping[str, np.ndarray]) -> None:
        """Take in finite values by tag."""

    def finish(self, step: int, scores: Mapping[str, float]) -> None:
        """Take in the final scores of base and trained actor, after the last step."""

    def rewind(self, step: int) -> None:
        """Forget, where that is possible, what came after `step`: the run was rolled back to it."""


TrackerFactory = Callable[..., Tracker]
"""(RunInfo, **args) -> tracker."""
