"""What `markov-cot sft` does: find the written CoTs, and train as `train` does."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markov_cot.checkpoints.run_dir import folders_of, new_run_name
from markov_cot.cli.dry_run import run_dry
from markov_cot.cli.training import run_train
from markov_cot.config.loading import read_assignments
from markov_cot.config.schema import Checkpoint
from markov_cot.evaluation.run import Run
from markov_cot.training.best_rollouts import best_rollouts
from markov_cot.training.options import resolve_config
from markov_cot.training.own_rows import kept_rows
from markov_cot.training.worked import SFT
from markov_cot.utils.errors import UserError
from markov_cot.utils.layout import CONFIG


@dataclass(frozen=True, slots=True)
class Asked:
    """What was asked for on the command line."""

    data: str | None
    from_run: str | None
    top: int
    recipe: str | None
    run: str | None
    given: Mapping[str, Any]
    """Settings that have an option of their own, by key."""
    assignments: Sequence[str]
    """Of --set."""

    @property
    def settings(self) -> dict[str, Any]:
        """All settings, by key."""
        data = {} if self.data is None else {"data.dataset": self.data}
        return {"method": SFT} | data | dict(self.given) | read_assignments(self.assignments)


def run_sft(asked: Asked, beside: Mapping[str, Any], started: float, *, dry: bool, as_json: bool) -> int:
    """Fine-tune as asked. `beside` are the options of a resumed run. Returns the exit code."""
    settings, resume = asked.settings, bool(beside["--resume"])
    if asked.from_run is not None and resume:
        raise UserError("--from-run: a resumed run has its rows already; leave it out")
    if asked.from_run is None and asked.data is None and not resume and "data.dataset" not in settings:
        raise UserError("sft: there is nothing to learn; give a .jsonl file, a dataset's name, or --from-run RUN")
    with contextlib.ExitStack() as stack:
        recipe, run = asked.recipe, asked.run
        if asked.from_run is not None:
            recipe, run, settings = _of_rollouts(asked, settings, stack)
        if dry:
            return run_dry(recipe, settings, run, started, beside, as_json=as_json)
        return run_train(
            recipe,
            settings,
            run,
            resume=resume,
            accept_changes=beside["--accept-changes"],
            checkpoint=beside["--checkpoint"],
            as_json=as_json,
        )


def _of_rollouts(
    asked: Asked, settings: dict[str, Any], stack: contextlib.ExitStack
) -> tuple[str, str, dict[str, Any]]:
    """Recipe, run and settings to learn a run's best rollouts: its own, and the file that they are kept in."""
    if asked.data is not None or asked.recipe is not None:
        raise UserError("--from-run: takes data and settings of the run itself; leave out DATA and --config")
    runs_dir = str(settings.get("checkpoint.runs_dir", Checkpoint().runs_dir))
    source = Run(str(asked.from_run), runs_dir=runs_dir)
    rows = best_rollouts(source, asked.top)
    recipe = str(source.folder / CONFIG)
    run = asked.run or new_run_name(f"{SFT}-{source.name}")
    config, _ = resolve_config(recipe, settings)
    path: Path = stack.enter_context(kept_rows(rows, folders_of(config, run), resume=False))
    return recipe, run, settings | {"sft.rows": str(path)}
