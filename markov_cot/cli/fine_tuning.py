"""What `markov-cot sft` does: find the written CoTs, and train as `train` does."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from markov_cot.checkpoints.run_dir import folders_of, new_run_name
from markov_cot.cli.dry_run import run_dry
from markov_cot.cli.launched import is_one_of_several
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
    report: bool = True
    """Whether one is written at the end."""

    @property
    def settings(self) -> dict[str, Any]:
        """All settings, by key."""
        data = {} if self.data is None else {"data.dataset": self.data}
        return {"method": SFT} | data | dict(self.given) | read_assignments(self.assignments)


def run_sft(asked: Asked, beside: Mapping[str, Any], started: float, *, dry: bool, as_json: bool) -> int:
    """Fine-tune as asked. `beside` are the options of a resumed run. Returns the exit code."""
    settings, resume = asked.settings, bool(beside["--resume"])
    _check(asked, settings, resume=resume)
    with contextlib.ExitStack() as stack:
        recipe, run = asked.recipe, asked.run
        if asked.from_run is not None:
            recipe, run, settings = _of_rollouts(asked, settings, stack, dry=dry)
        if dry:
            return run_dry(recipe, settings, run, started, beside, as_json=as_json)
        return run_train(
            recipe,
            settings,
            run,
            resume=resume,
            accept_changes=beside["--accept-changes"],
            checkpoint=beside["--checkpoint"],
            report=asked.report,
            as_json=as_json,
        )


def _check(asked: Asked, settings: Mapping[str, Any], *, resume: bool) -> None:
    """Raise `UserError` for options that do not go together."""
    if settings["method"] != SFT:
        raise UserError("--set method: is sft in this command; training by reward is `markov-cot train`")
    if asked.data is not None and settings["data.dataset"] != asked.data:
        raise UserError(f"--set data.dataset: is {asked.data}, as given; leave one of them out")
    if asked.from_run is not None and resume:
        raise UserError("--from-run: a resumed run has its rows already; leave it out")
    if asked.from_run is not None and is_one_of_several():
        raise UserError("--from-run: is for a single process; give several the rows it has written, as sft.rows")
    if not (asked.from_run or asked.data or asked.recipe or resume or "data.dataset" in settings):
        raise UserError("sft: there is nothing to learn; give a .jsonl file, a dataset's name, or --from-run RUN")


def _of_rollouts(
    asked: Asked, settings: dict[str, Any], stack: contextlib.ExitStack, *, dry: bool
) -> tuple[str, str, dict[str, Any]]:
    """Recipe, run and settings to learn a run's best rollouts: its own, and the file that they are kept in.

    They are learnt as they are, with no answer stated after them, unless the settings say so.
    """
    if asked.data is not None or asked.recipe is not None:
        raise UserError("--from-run: takes data and settings of the run itself; leave out DATA and --config")
    runs_dir = str(settings.get("checkpoint.runs_dir", Checkpoint().runs_dir))
    source = Run(str(asked.from_run), runs_dir=runs_dir)
    rows = best_rollouts(source, asked.top)
    recipe = str(source.folder / CONFIG)
    run = asked.run or new_run_name(f"{SFT}-{source.name}")
    config, _ = resolve_config(recipe, settings)
    folders = folders_of(config, run)
    if dry:
        folders = replace(folders, run=Path(stack.enter_context(tempfile.TemporaryDirectory()), run))
    path = stack.enter_context(kept_rows(rows, folders, resume=False))
    return recipe, run, {"sft.answer": ""} | settings | {"sft.rows": str(path)}
