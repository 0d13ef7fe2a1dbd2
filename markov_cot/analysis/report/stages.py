"""What other commands found about a run: their files, as far as they are there."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from markov_cot.analysis.report.sources import Source
from markov_cot.analysis.run_command import run_command
from markov_cot.evaluation.evaluate import file_name
from markov_cot.evaluation.locate import BASE
from markov_cot.evaluation.run import RESULTS, Run

LONGEST_TOKEN = 200
"""Characters."""
Document = Mapping[str, Any]
COMMANDS = {
    "evaluation": ("eval", "--run", "{run}"),
    "probe": ("probe", "--run", "{run}"),
    "transfer": ("transfer", "{run}", "--reader", "MODEL"),
    "forgetting": ("forgetting", "--run", "{run}"),
    "teachers": ("teachers", "FILE", "--student", "{model}"),
}
"""By stage, what measures it."""
OF_NO_RUN = ("teachers",)
"""Stages before there is a run."""


def stages(source: Source) -> dict[str, list[dict[str, Any]]]:
    """Return what each stage found, in the order of the files' names; none of a stage without files.

    A file that is no such document is passed over: another version's, or one that was edited.
    """
    if source.run is None:
        return {name: [] for name in COMMANDS}
    analysis = source.run.folder / "analysis"
    model = file_name(Path(str(source.setting("model.name"))).name)
    beside = source.run.folder.parent / f"{BASE}-{model}" / "analysis"
    return {
        "evaluation": list(_each(source.run.folder / "eval", RESULTS, _evaluation)),
        "probe": list(_each(analysis, "probe-*.json", _probe)),
        "transfer": list(_each(analysis, "transfer-*.json", _transfer)),
        "forgetting": list(_each(analysis, "forgetting-*.json", _forgetting)),
        "teachers": [*_each(analysis, "teachers-*.json", _teachers), *_each(beside, "teachers-*.json", _teachers)],
    }


def missing(found: Mapping[str, list[Any]], source: Source) -> list[dict[str, str]]:
    """Return the stages that nothing is known of, each with the command that measures it."""
    if source.run is None:
        return []
    return [{"stage": name, "command": _command(name, source, source.run)} for name in COMMANDS if not found[name]]


def _command(stage: str, source: Source, run: Run) -> str:
    names = {"run": run.name, "model": str(source.setting("model.name"))}
    words = [word.format(**names) for word in COMMANDS[stage]]
    if stage in OF_NO_RUN:
        return shlex.join(["markov-cot", *words])
    return run_command(words, run.folder, source.settings)


def _each(folder: Path, pattern: str, summed: Callable[[Document], Any]) -> Iterator[Any]:
    try:
        paths = sorted(folder.glob(pattern))
    except OSError:  # a model's name that is too long for a folder's
        return
    for path in paths:
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            continue
        yield from _summed(summed, document, path.name)


def _summed(summed: Callable[[Document], Any], document: Any, name: str) -> list[Any]:
    try:
        found = summed(document)
    except (LookupError, TypeError, AttributeError, ValueError):
        return []
    rows = found if isinstance(found, list) else [found]
    return [{"file": name, **row} for row in rows]


def _evaluation(document: Document) -> list[dict[str, Any]]:
    rows = []
    for task, own in document["markov_cot"].items():
        primary, against = own["primary"], own.get("against")
        about = document["configs"][task]
        rows.append(
            {
                "task": task,
                "checkpoint": about["checkpoint"],
                "split": about["split"],
                "reader": ", ".join(reader["name"] for reader in about.get("readers", [])),
                "metric": primary,
                "n": own["n"],
                "score": own["metrics"][primary],
                "against": against["checkpoint"] if against else None,
                "base": against["metrics"].get(primary) if against else None,
                "difference": against["paired"].get(primary) if against else None,
                "extractors": {
                    key.partition(",")[2]: measure
                    for key, measure in own["metrics"].items()
                    if key.startswith(primary.partition(",")[0] + ",")
                },
            }
        )
    return rows


def _probe(document: Document) -> dict[str, Any]:
    return {
        "n": document["n"],
        "dataset": document["dataset"],
        "checkpoint": document["checkpoint"],
        "reader": document["reader"],
        "original": document["original"],
        "tests": {
            name: {key: of["overall"][key] for key in ("effect", "low", "high", "detectable")}
            | {"same_answer": of["overall"].get("same_answer")}
            for name, of in document["tests"].items()
        },
        "against": document["against"] and (document["against"].get("run") or document["against"].get("checkpoint")),
    }


def occlusions(source: Source) -> list[dict[str, Any]]:
    """Return the probes' examples: each token of a CoT with the nats that the answer loses without it."""
    if source.run is None:
        return []
    return list(_each(source.run.folder / "analysis", "probe-*.json", _occluded))


def _occluded(document: Document) -> list[dict[str, Any]]:
    rows = []
    for row in document["occlusion"]:
        tokens = [str(token)[:LONGEST_TOKEN] for token in row["tokens"]]
        effects = [float(each) for each in row["effects"]]
        if len(tokens) != len(effects) or not all(map(math.isfinite, effects)):
            raise ValueError("each token has an effect")
        rows.append({"item": row["item"], "question": row["question"], "answer": row["answer"]})
        rows[-1] |= {"tokens": tokens, "effects": effects}
    return rows


def _transfer(document: Document) -> dict[str, Any]:
    return {
        "dataset": document["dataset"],
        "n": document["n"],
        "readers": {
            name: {"first": of["informativeness"][0], "last": of["informativeness"][-1]}
            for name, of in document["readers"].items()
            if of["informativeness"]
        },
    }


def _forgetting(document: Document) -> dict[str, Any]:
    tasks = {
        name: {"n": task["n"], "metric": task["metric"], "verdict": task["verdict"], **_change(task)}
        for name, task in document["tasks"].items()
    }
    return {"n": document["n"], "verdict": document["verdict"], "tasks": tasks}


def _change(task: Document) -> dict[str, Any]:
    found = task["metrics"][task["metric"]]
    keys = ("before", "after", "difference", "low", "high", "p", "p_holm")
    return {key: found.get(key) for key in keys} | {"is_share": found.get("is_share")}


def _teachers(document: Document) -> dict[str, Any]:
    return {"student": document["student"], "n": document.get("n"), "teachers": document["teachers"]}
