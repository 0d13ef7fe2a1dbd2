"""What `markov-cot sample --step` does: the CoTs of one training step as they were kept, by reward."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from markov_cot.config.loading import read_assignments
from markov_cot.config.schema import Checkpoint
from markov_cot.evaluation.run import Run
from markov_cot.utils.errors import UserError
from markov_cot.utils.layout import CONFIG, newest_run
from markov_cot.utils.text import visible

GOES_WITH = ("step", "run", "count", "as_json", "settings")
"""Parameters of `markov-cot sample` that have a meaning for stored CoTs."""
_LEGEND = (
    "reward: nats per answer token, unless it is a function of your own; advantage: within the CoTs of one question; "
    "dead: they had too little variance, so none"
)


def show_rollouts(
    step: int, run: str | None, count: int | None, settings: Sequence[str], others: Sequence[str], *, as_json: bool
) -> None:
    """Print the CoTs of `step` with the highest reward first, all of them unless `count` limits them.

    `others` are the options given beside those of `GOES_WITH`.
    """
    if others:
        raise UserError(f"--step: shows CoTs that a run has kept, for which {others[0]} has no meaning; leave one out")
    runs_dir = Path(str(read_assignments(settings).get("checkpoint.runs_dir", Checkpoint().runs_dir)))
    name = run or newest_run(runs_dir, CONFIG)
    if name is None:
        raise UserError(f"--step: there are no runs in {runs_dir}/; train one with --set tracking.rollouts=N")
    rows = sorted(Run(name, runs_dir=runs_dir).rollouts(step), key=_descending)[:count]
    if as_json:
        print(json.dumps(rows))
        return
    console = Console(markup=False, highlight=False)
    console.print(visible(f"{Path(name).name}, step {step}"), soft_wrap=True)
    console.print(_table(rows))
    console.print(_LEGEND, soft_wrap=True)


def _descending(row: Mapping[str, Any]) -> float:
    reward = float(row["reward"])
    return math.inf if math.isnan(reward) else -reward


def _table(rows: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(show_lines=True)
    for column in ("reward", "advantage"):
        table.add_column(column, justify="right", no_wrap=True)
    for column, share in (("question", 2), ("answer", 1), ("CoT", 4)):
        table.add_column(column, overflow="fold", ratio=share)
    for row in rows:
        advantage = f"{row['advantage']:+.3f}" if row["live"] else "dead"
        texts = (row["question"] or row["passage"], row["answer"], row["cot"])
        table.add_row(f"{row['reward']:.3f}", advantage, *(visible(str(text).strip()) for text in texts))
    return table
