"""Several runs side by side: what differs in their settings, how they did, what that is worth, and what it cost."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from markov_cot.analysis.compare_costs import Cost, cost_of
from markov_cot.analysis.compare_curves import Curve, curves_of
from markov_cot.analysis.compare_items import Pair, Unpaired, pairs_of
from markov_cot.analysis.compare_run import ComparedRun, read_compared
from markov_cot.analysis.compare_settings import Setting, by_setting, data_of, differing
from markov_cot.utils.json_values import finite_or_null

FORMAT = 1


@dataclass(frozen=True)
class RunComparison:
    """What was found. Shares are in [0, 1], differences are the second run less the first."""

    runs: tuple[ComparedRun, ...]
    data: Mapping[str, str]
    """By run, what it is validated on."""
    differing: Mapping[str, Mapping[str, Any]]
    """By setting that is not the same in all runs, its value by run."""
    settings: tuple[Setting, ...]
    pairs: tuple[Pair, ...]
    unpaired: tuple[Unpaired, ...]
    costs: Mapping[str, Cost]
    curves: tuple[Curve, ...]
    unmeasured: Mapping[str, str]
    """By run, why it has no paired test, and what to do."""
    notes: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """Return the document: null for what was not measured or is not defined."""
        document = {
            "format": FORMAT,
            "n": len(self.runs),
            "seed": sorted({run.seed for run in self.runs}),
            "inputs": {path: sha256 for run in self.runs for path, sha256 in run.inputs.items()},
            "settings": {"level": 95.0, "correction": "holm", "tests": sum(p.p_holm is not None for p in self.pairs)},
            "differing": {key: dict(values) for key, values in self.differing.items()},
            "runs": {run.name: self._run(run) for run in self.runs},
            "groups": [_setting(each) for each in self.settings],
            "pairs": [_pair(each) for each in self.pairs],
            "unpaired": [asdict(each) for each in self.unpaired],
            "unmeasured": dict(self.unmeasured),
            "curves": [asdict(each) for each in self.curves],
            "notes": list(self.notes),
        }
        plain: dict[str, Any] = finite_or_null(document)
        return plain

    def _run(self, run: ComparedRun) -> dict[str, Any]:
        return {
            "folder": str(run.folder),
            "data": self.data[run.name],
            "seed": run.seed,
            "step": run.step,
            "steps": run.settings["steps"],
            "state": run.state,
            "base": asdict(run.ending.base) if run.ending else None,
            "trained": asdict(run.ending.trained) if run.ending else None,
            "best": asdict(run.best) if run.best else None,
            "best_checkpoint": run.ending.best_step if run.ending else None,
            "cost": asdict(self.costs[run.name]),
            "records": {
                task: {"checkpoint": each.checkpoint, "n": len(each.scores.items.contents) if each.scores.items else 0}
                for task, each in run.records.items()
            },
        }


def compare_runs(names: Sequence[str], runs_dir: Path = Path("runs")) -> RunComparison:
    """Compare runs by their names in `runs_dir`, or by their folders.

    Raises `UserError` for fewer than two runs, one that is there twice or not at all, and settings, a log or a summary
    that cannot be read. What a run has not measured is left out and noted.
    """
    runs = read_compared(names, runs_dir)
    settings, data = by_setting(runs), data_of(runs)
    pairs, unpaired = pairs_of(runs)
    unmeasured = dict(_unmeasured(runs))
    return RunComparison(
        runs,
        data,
        differing(runs),
        settings,
        pairs,
        unpaired,
        {run.name: cost_of(run) for run in runs},
        curves_of(runs, settings),
        unmeasured,
        tuple(_notes(runs, data, settings, pairs)),
    )


def _unmeasured(runs: Sequence[ComparedRun]) -> Iterator[tuple[str, str]]:
    for run in runs:
        if run.problems:
            yield run.name, f"records of it cannot be read ({'; '.join(run.problems)})"
        elif not run.records:
            yield run.name, f"it has no evaluation records; {run.command('eval')} makes them"


def _notes(
    runs: Sequence[ComparedRun], data: Mapping[str, str], settings: Sequence[Setting], pairs: Sequence[Pair]
) -> Iterator[str]:
    for run in runs:
        if run.unfinished:
            yield f"{run.name}: no final result, because {run.unfinished}"
    if len(set(data.values())) > 1:
        listed = "; ".join(f"{name}: {what}" for name, what in data.items())
        yield (
            f"the runs are validated on different data ({listed}), so that held-out results and curves are not "
            "comparable between them: only settings and costs are, and tests on common items"
        )
    for each in settings:
        for name in each.repeated:
            yield f"{name}: repeats the setting and the seed of another run, and is not pooled a second time"
    if pairs:
        yield (
            "intervals and p-values are about these checkpoints on items like these; what another seed of the same "
            "settings would do is not in them"
        )
    yield from _differently_evaluated(runs)


def _differently_evaluated(runs: Sequence[ComparedRun]) -> Iterator[str]:
    for task in dict.fromkeys(task for run in runs for task in run.records):
        found = [run.records[task].scores.settings for run in runs if task in run.records]
        keys = dict.fromkeys(key for each in found for key in each)
        if differ := [key for key in keys if len({json.dumps(each[key]) for each in found if key in each}) > 1]:
            yield f"{task}: evaluated with different {', '.join(differ)}, which may be what a difference is of"


def _setting(each: Setting) -> dict[str, Any]:
    result = {"n": len(each.pooled.seeds), **asdict(each.pooled)} if each.pooled else None
    return {"runs": list(each.runs), "pooled": list(each.members), "result": result}


def _pair(pair: Pair) -> dict[str, Any]:
    change = asdict(pair.change)
    del change["paired"]
    return {
        "first": pair.first,
        "second": pair.second,
        "task": pair.task,
        "metric": pair.metric,
        "is_share": pair.is_share,
        "checkpoints": list(pair.checkpoints),
        "items": list(pair.items),
        **{_KEYS.get(key, key): value for key, value in change.items()},
        "p_holm": pair.p_holm,
    }


_KEYS = {
    "p_value": "p",
    "before": "first_score",
    "before_stderr": "first_stderr",
    "after": "second_score",
    "after_stderr": "second_stderr",
    "fixed": "only_second",
    "broken": "only_first",
}
"""What a change is called before and after, by run."""
