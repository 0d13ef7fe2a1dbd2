"""markov-cot from Python: `train`, `evaluate`, `load_dataset` and `Run`, as a notebook uses them.

Each does what the command of its name does, with the same files left behind; bad input is a `UserError` (a
`ValueError`) with one line that says what is wrong.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from markov_cot.alarms.monitor import Event
from markov_cot.checkpoints.run_dir import folders_of, new_run_name
from markov_cot.config.loading import build_config, by_key
from markov_cot.config.schema import Checkpoint, Config
from markov_cot.data.registry import load
from markov_cot.data.splits import Splits
from markov_cot.evaluation.evaluate import EvalReport, Request
from markov_cot.evaluation.evaluate import evaluate as run_evaluation
from markov_cot.evaluation.loaded_model import Overrides
from markov_cot.evaluation.results import Measure
from markov_cot.evaluation.run import Run
from markov_cot.evaluation.suites import SuiteTask
from markov_cot.models.loading import load_tokenizer
from markov_cot.rewards.hooks import RewardFunction
from markov_cot.tracking.base import Tracker
from markov_cot.training.method import MakeMethod
from markov_cot.training.options import resolve_config
from markov_cot.training.own_rows import kept_rows
from markov_cot.training.reinforcement import Reinforcement
from markov_cot.training.setup import open_session
from markov_cot.training.trainer import Observer, Trainer, TrainResult
from markov_cot.training.unstarted import undone_if_it_never_starts
from markov_cot.utils.errors import UserError
from markov_cot.utils.interrupts import stop_after_the_step
from markov_cot.utils.layout import CONFIG, check_run_name
from markov_cot.utils.plugins import is_code
from markov_cot.utils.quiet import quietly

Rows = Sequence[Mapping[str, Any]]

__all__ = ["EvalResult", "Run", "TrainResult", "UserError", "evaluate", "load_dataset", "train"]


@quietly()
def train(
    recipe: str | Path | None = "quickstart",
    *,
    dataset: str | Path | Rows | None = None,
    model: str | None = None,
    steps: int | None = None,
    seed: int | None = None,
    run: str | None = None,
    resume: bool = False,
    settings: Mapping[str, Any] | None = None,
    reward: RewardFunction | None = None,
    observers: Sequence[Observer] = (),
    trackers: Sequence[Tracker | str] = (),
) -> TrainResult:
    """Train an actor and return its held-out scores before and after.

    The same as `markov-cot train RECIPE`, with the same log, line by line. A first interrupt (Ctrl-C, a notebook's stop
    button) finishes the step, saves and returns, with `interrupted` set; a second one raises `KeyboardInterrupt`.

    Args:
        recipe: a recipe's name, or the path of a YAML file; None for the one named like the dataset, or the defaults.
        dataset: a name that `markov-cot datasets` lists, the path of your own file, or rows (`question`, `answer`,
            ...), which are kept as `rows.jsonl` in the run's folder.
        model: `nano` (bundled), a local folder, or a hub id.
        steps: optimizer steps.
        seed: of sampling, data order and adapter.
        run: the run's name; the recipe and the time by default.
        resume: continue the run of that name from its newest checkpoint.
        settings: any setting by its key, {"optim.lr": 3e-4}, or nested, {"optim": {"lr": 3e-4}}.
        reward: a function from a `RewardBatch` to one number a CoT, instead of the answer's log-prob.
        observers: called with (step, metrics, alarms that changed) after every step. What one raises ends the run,
            saved, and is raised here as it is.
        trackers: objects with `scalars` and `close`, or names, beside those of the config.

    Raises:
        UserError: for everything that is the user's to fix.

    Example:
        >>> from markov_cot import train
        >>> result = train(steps=2, run="example", settings={"rollout.length": 8, "validation.final_problems": 8})
        >>> result.run.metrics()["step"], result.checkpoint.name
        ([0, 1, 2], 'adapter_2')
    """
    _check_code(reward, observers, trackers)
    values = _by_key(settings) | _given({"model.name": model, "steps": steps, "seed": seed})
    values |= _named(dataset, reward)
    recipe = None if recipe is None else str(recipe)
    saved = _saved_config(run, values) if resume else None
    if named := [each for each in trackers if isinstance(each, str)]:
        values["tracking.trackers"] = list(dict.fromkeys([*_trackers_of(recipe, values, saved), *named]))
    config, name = resolve_config(recipe, values, saved)
    run = run or new_run_name(name)
    with contextlib.ExitStack() as stack:
        if dataset is not None and not isinstance(dataset, (str, Path)):
            rows = kept_rows(dataset, folders_of(config, run), resume=resume)
            values["data.dataset"] = str(stack.enter_context(rows))
            config, _ = resolve_config(recipe, values, saved)
        method = _method_with(reward, config)
        session = open_session(config, run, name, resume=resume)
        stack.enter_context(undone_if_it_never_starts(session, resume=resume))
        trainer = Trainer(session, method, [each for each in trackers if not isinstance(each, str)])
        if resume:
            trainer.state.resume()
        return trainer.run(_telling(observers), stack.enter_context(stop_after_the_step()))


def _named(dataset: str | Path | Rows | None, reward: RewardFunction | None) -> dict[str, Any]:
    """Settings that name the data, unless they are rows, and the caller's own reward."""
    named = {"data.dataset": str(dataset)} if isinstance(dataset, (str, Path)) else {}
    return named | ({} if reward is None else {"reward.function": _name_of(reward)})


def _telling(observers: Sequence[Observer]) -> Observer:
    """One observer that passes on to all."""

    def watch(step: int, metrics: dict[str, float], events: Sequence[Event]) -> None:
        for observe in observers:
            observe(step, metrics, events)

    return watch


def _method_with(reward: RewardFunction | None, config: Config) -> MakeMethod | None:
    """Training by the caller's own reward; None for what the config names."""
    if reward is None:
        return None
    if config.method != "rl":
        raise UserError(f"reward: has no effect with method={config.method}; leave it out")
    return partial(Reinforcement, reward=reward)


def _check_code(reward: object, observers: object, trackers: object) -> None:
    """Raise `UserError` for what can be seen to be wrong with the caller's own code before anything is loaded."""
    if reward is not None and not callable(reward):
        raise UserError(f"reward: {reward!r} is not a function; a name goes into settings={{'reward.function': ...}}")
    for name, given in (("observers", observers), ("trackers", trackers)):
        if not isinstance(given, Sequence) or isinstance(given, str):
            raise UserError(f"{name}: expected a list, got {given!r}; write {name}=[...]")
        for each in given:
            if name == "observers" and not callable(each):
                raise UserError(f"observers: {each!r} is not a function of (step, metrics, events)")
            if name == "trackers" and not isinstance(each, str) and (isinstance(each, type) or not _tracks(each)):
                raise UserError(f"trackers: {each!r} is no object with scalars() and close(), and no name")


def _tracks(each: object) -> bool:
    return callable(getattr(each, "scalars", None)) and callable(getattr(each, "close", None))


def _trackers_of(recipe: str | None, values: Mapping[str, Any], saved: Path | None) -> list[str]:
    """The config's trackers. Of a resumed run not those that are code, which has to be named again."""
    if saved is None or "tracking.trackers" in values:
        return list(resolve_config(recipe, values)[0].tracking.trackers)
    return [each for each in Run(saved.parent).config.tracking.trackers if not is_code(each)]


def _by_key(settings: Mapping[str, Any] | None) -> dict[str, Any]:
    return {key: str(value) if isinstance(value, Path) else value for key, value in by_key(settings or {}).items()}


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


def _name_of(function: Any) -> str:
    """What a config calls a function that was handed over: where it is defined."""
    name = getattr(function, "__qualname__", type(function).__qualname__)
    return f"{getattr(function, '__module__', None) or '__main__'}:{re.sub('[<>]', '', name)}"


def _saved_config(run: str | None, values: Mapping[str, Any]) -> Path:
    if run is None:
        raise UserError("resume=True: needs the run's name; pass run=...")
    check_run_name(run)
    path = Path(values.get("checkpoint.runs_dir", Checkpoint().runs_dir), run, CONFIG)
    if not path.is_file():
        raise UserError(f"run {run}: there is no {path} to resume from; leave out resume=True to start the run")
    return path


@dataclass(frozen=True)
class EvalResult:
    """Scores of a checkpoint on one dataset; `report` has all else, comparisons and every extractor."""

    report: EvalReport

    @property
    def measure(self) -> Measure:
        """The one number the evaluation is summed up by: accuracy, or log-prob per token for continuations."""
        outcome = self.report.tasks[0].outcome
        return outcome.measures[outcome.primary]

    @property
    def base(self) -> Measure | None:
        """The same of what it was compared with, the untrained base by default; None without a comparison."""
        reference = self.report.tasks[0].reference
        return reference.measures[reference.primary] if reference else None

    @property
    def n(self) -> int:
        """Problems evaluated."""
        return self.measure.n

    @property
    def accuracy(self) -> float | None:
        """Share of right answers by the extractor that counts; None for continuations."""
        return None if self.report.tasks[0].outcome.kind == "continuation" else self.measure.mean

    @property
    def low(self) -> float | None:
        """Lower end of the 95 % interval."""
        return self.measure.low

    @property
    def high(self) -> float | None:
        """Upper end of the 95 % interval."""
        return self.measure.high

    def as_json(self) -> dict[str, Any]:
        """Return the results document, as `markov-cot eval --json` prints it."""
        return self.report.document


@quietly()
def evaluate(
    checkpoint: str | Path | TrainResult | None = None,
    *,
    dataset: str | Path | None = None,
    limit: int | None = None,
    run: str | None = None,
    model: str | None = None,
    data_dir: str | Path | None = None,
    against: str | None = None,
    seed: int = 0,
    settings: Mapping[str, Any] | None = None,
) -> EvalResult:
    """Evaluate a checkpoint on the test split, against its base.

    The same as `markov-cot eval`; results are kept in the run's `eval/` folder.

    Args:
        checkpoint: what `train` returned, "adapter_4000", "best", "latest", "base", or an adapter's folder; by default
            the best of the run.
        dataset: a name or a path, as in `train`; the dataset trained on by default.
        limit: problems, drawn with `seed`; all by default.
        run: the run that holds the checkpoint; the newest by default.
        model: the base, where the checkpoint's own name for it cannot be found.
        data_dir: folder with the dataset's original files.
        against: "base", "none", or another checkpoint; the base by default.
        seed: of the problems drawn.
        settings: as in `train`.

    Raises:
        UserError: for everything that is the user's to fix.

    Example:
        >>> from markov_cot import evaluate
        >>> result = evaluate("base", dataset="arithmetic", limit=4, settings={"rollout.length": 8})
        >>> result.n, result.base
        (4, None)
    """
    values = _by_key(settings)
    if dataset is not None and not isinstance(dataset, (str, Path)):
        raise UserError("dataset: evaluate takes a name or a path; write rows to a .jsonl file first")
    if limit is not None and limit < 1:
        raise UserError(f"limit: {limit} problems cannot be evaluated; give 1 or more, or leave it out for all")
    if isinstance(checkpoint, TrainResult):
        trained = checkpoint.run.config.checkpoint
        values = {
            "checkpoint.runs_dir": trained.runs_dir,
            "checkpoint.checkpoints_dir": trained.checkpoints_dir,
        } | values
        run, checkpoint = run or checkpoint.run.name, checkpoint.checkpoint.name
    request = Request(
        checkpoint=None if checkpoint is None else str(checkpoint),
        run=run,
        against=against,
        tasks=(SuiteTask(dataset=str(dataset)),) if dataset is not None else (),
        task_fields={} if limit is None else {"limit": limit},
        seed=seed,
        overrides=Overrides(model, str(data_dir) if data_dir else None, values),
    )
    return EvalResult(run_evaluation(request, lambda *_: lambda _: None, lambda _: None))


@quietly()
def load_dataset(
    name: str | Path,
    *,
    data_dir: str | Path | None = None,
    subset: str | None = None,
    skip_bad_rows: bool = False,
    model: str = "nano",
) -> Splits:
    """Return a dataset's disjoint `train`, `validation` and `test` problems.

    Args:
        name: a name that `markov-cot datasets` lists, or the path of your own file or folder.
        data_dir: folder with the original files.
        subset: of a dataset that has several.
        skip_bad_rows: leave out broken rows; `skipped` counts them.
        model: whose tokenizer counts the tokens of a continuation (wiki); others need none.

    Raises:
        UserError: for a dataset that is not known or not found, or a broken row.

    Example:
        >>> from markov_cot import load_dataset
        >>> splits = load_dataset("arithmetic")
        >>> splits.train[0].kind, len(splits.test)
        ('numeric', 2000)
    """
    data = {"dataset": str(name), "subset": subset, "skip_bad_rows": skip_bad_rows}
    data |= {"data_dir": None if data_dir is None else str(data_dir)}
    config = build_config({"data": data, "model": {"name": model}}, "load_dataset")
    return load(config.data, load_tokenizer(config.model))
