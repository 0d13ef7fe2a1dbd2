"""What changes from step to step besides parameters, optimizer and alarms."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from markov_cot.algorithms.advantages import History


@dataclass
class Progress:
    """How far a run is; saved in checkpoints as JSON."""

    step: int = 0
    started: bool = False
    """Whether what comes before the first step is done."""
    best: float | None = None
    best_tie_break: float = 0.0
    best_step: int = 0
    since_best: int = 0
    kl_weight: float | None = None
    """Adapted beta; None until the first step."""
    entropy_weight: float | None = None
    """Adapted eta, likewise."""
    lr_scale: float = 1.0
    """Product of the factors of all rollbacks."""
    rollbacks: int = 0
    returns: int = 0
    """Those of them that the user asked for, which the limit does not count."""
    rolled_back_to: int | None = None
    """Step the last rollback went to."""
    history: History = field(default_factory=History)
    token_budgets: dict[str, int] = field(default_factory=dict)
    """What was found to fit into memory, by phase; empty until the first step."""

    def note(self, value: float, tie_break: float = 0.0) -> bool:
        """Takes in a validation at the current step; whether it is the best so far, which NaN never is.

        Of equal values the one with the larger `tie_break` is better.
        """
        is_best = math.isfinite(value) and (self.best is None or (value, tie_break) > (self.best, self.best_tie_break))
        if is_best:
            self.best, self.best_tie_break, self.best_step, self.since_best = value, tie_break, self.step, 0
        else:
            self.since_best += 1
        return is_best

    @staticmethod
    def from_json(values: dict[str, Any]) -> Progress:
        """From `asdict` of an earlier one."""
        return Progress(**{**values, "history": History(**values["history"])})
