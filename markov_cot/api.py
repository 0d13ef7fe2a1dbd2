"""markov-cot from Python: `train`, `evaluate`, `load_dataset` and `Run`, as a notebook uses them.

Each does what the command of its name does, with the same files left behind; bad input is a `UserError` (a
`ValueError`) with one line that says what is wrong.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from markov_cot.alarms.monitor import Event
from markov_cot.config.schema import Checkpoint, Data
from markov_cot.data.registry import load
from markov_cot.data.splits import Splits
from markov_cot.evaluation.evaluate import EvalReport, Request
from markov_cot.evaluation.evaluate import evaluate as run_evaluation
from markov_cot.evaluation.loaded_model import Overrides
from markov_cot.evaluation.results import Measure
from markov_cot.evaluation.run import Run
from markov_cot.evaluation.suites import SuiteTask
from markov_cot.rewards.hooks import RewardFunction
from markov_cot.tracking.base import Tracker
from markov_cot.training.options import resolve_config
from markov_cot.training.setup import open_session
from markov_cot.training.trainer import Observer, Trainer, TrainResult
from markov_cot.training.unstarted import undone_if_it_never_starts
from markov_cot.utils.errors import UserError
from markov_cot.utils.files import replace_file
from markov_cot.utils.layout import CONFIG

ROWS = "rows.jsonl"
Rows = Sequence[Mapping[str, Any]]

__all__ = ["EvalResult", "Run", "TrainResult", "UserError", "evaluate", "load_dataset", "train"]


def train(
    recipe: str | None = "quickstart",
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

    The same as `markov-cot train RECIPE`, with the same log, line by line.

    Args:
        recipe: a recipe's name, or the path of a YAML file; None starts from the defaults.
        dataset: a name that `markov-cot datasets` lists, the path of your own file, or rows (`question`, `answer`,
            ...), which are kept as `rows.jsonl` in the run's folder.
        model: `nano` (bundled), a local folder, or a hub id.
        steps: optimizer steps.
        seed: of sampling, data order and adapter.
        run: the run's name; the recipe and the time by default.
        resume: continue the run of that name from its newest checkpoint.
        settings: any setting by its key, {"optim.lr": 3e-4}.
        reward: a function from a `RewardBatch` to one number a CoT, instead of the answer's log-prob.
        observers: called with (step, metrics, alarms that changed) after every step.
        trackers: objects with `scalars` and `close`, or names, beside those of the config.

    Raises:
        UserError: for everything that is the user's to fix.

    Example:
        >>> result = train(steps=2, run="example", settings={"rollout.length": 8, "validation.final_problems": 8,
        ...     "checkpoint.runs_dir": getfixture("tmp_path") / "runs",
        ...     "checkpoint.checkpoints_dir": getfixture("tmp_path") / "checkpoints"})
        >>> len(result.run.metrics()["reward/answer_logprob"]), result.checkpoint.name
        (2, 'adapter_2')
    """
    values = {key: str(value) if isinstance(value, Path) else value for key, value in (settings or {}).items()}
    named = {"model.name": model, "steps": steps, "seed": seed}
    values |= {key: value for key, value in named.items() if value is not None}
    if isinstance(dataset, (str, Path)):
        values["data.dataset"] = str(dataset)
    if reward is not None:
        values["reward.function"] = _name_of(reward)
    named_trackers = [each for each in trackers if isinstance(each, str)]
    if named_trackers:
        values["tracking.trackers"] = ["tensorboard", *named_trackers]
    saved = _saved_config(run, values) if resume else None
    config, name = resolve_config(recipe, values, saved)
    run = run or f"{name}-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    if dataset is not None and not isinstance(dataset, (str, Path)):
        path = _keep_rows(dataset, Path(config.checkpoint.runs_dir, run))
        config, _ = resolve_config(recipe, values | {"data.dataset": str(path)}, saved)
    session = open_session(config, run, name, resume=resume)
    with undone_if_it_never_starts(session, resume=resume):
        trainer = Trainer(session, reward=reward, trackers=[each for each in trackers if not isinstance(each, str)])
        if resume:
            trainer.resume()

        def watch(step: int, metrics: dict[str, float], events: Sequence[Event]) -> None:
            for observe in observers:
                observe(step, metrics, events)

        return trainer.run(watch)


def _name_of(function: Any) -> str:
    """What a config calls a function that was handed over: where it is defined."""
    name = getattr(function, "__qualname__", type(function).__qualname__)
    return f"{getattr(function, '__module__', '__main__')}:{re.sub('[<>]', '', name)}"


def _saved_config(run: str | None, values: Mapping[str, Any]) -> Path:
    if run is None:
        raise UserError("resume=True: needs the run's name; pass run=...")
    path = Path(values.get("checkpoint.runs_dir", Checkpoint().runs_dir), run, CONFIG)
    if not path.is_file():
        raise UserError(f"run {run}: there is no {path} to resume from; leave out resume=True to start the run")
    return path


def _keep_rows(rows: Rows, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    try:
        text = "".join(json.dumps(dict(row), ensure_ascii=False) + "\n" for row in rows)
    except (TypeError, ValueError) as error:
        raise UserError(f"dataset: rows must be mappings of plain values ({error})") from None
    replace_file(folder / ROWS, text.encode(errors="surrogatepass"))
    return folder / ROWS


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
        dataset: as in `train`; the dataset trained on by default.
        limit: problems, drawn with `seed`; all by default.
        run: the run that holds the checkpoint; the newest by default.
        against: "base", "none", or another checkpoint.

    Raises:
        UserError: for everything that is the user's to fix.

    Example:
        >>> evaluate("base", dataset="arithmetic", limit=4, settings={"rollout.length": 8, "data.terms": [2, 2],
        ...     "checkpoint.runs_dir": getfixture("tmp_path")}).n
        4
    """
    values = {key: str(value) if isinstance(value, Path) else value for key, value in (settings or {}).items()}
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


def load_dataset(
    name: str | Path, *, data_dir: str | Path | None = None, subset: str | None = None, skip_bad_rows: bool = False
) -> Splits:
    """Return a dataset's disjoint `train`, `validation` and `test` problems.

    Raises:
        UserError: for a dataset that is not known or not found, or a broken row.

    Example:
        >>> load_dataset("arithmetic").train[0].kind
        'numeric'
    """
    config = Data(
        dataset=str(name), data_dir=str(data_dir) if data_dir else None, subset=subset, skip_bad_rows=skip_bad_rows
    )
    return load(config)
