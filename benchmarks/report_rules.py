"""A run of the bundled model for each rule of `markov-cot report`'s advice, and whether it triggers the rule.

    python benchmarks/report_rules.py --out FOLDER

Runs that are in FOLDER already are not trained again. Rules that nothing on this model triggers are listed as such.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from markov_cot.analysis.report.advice import RULES
from markov_cot.analysis.report.document import report
from markov_cot.analysis.report.sources import open_source
from markov_cot.api import train
from markov_cot.utils.layout import SUMMARY

QUICK = {"validation.final_problems": 100}
WILD = {"algorithm.kl_weight": 0.0, "optim.lr": 1e-2, "alarms.action": "continue"}
RUNS: dict[str, dict[str, Any]] = {
    "unreadable": {"steps": 5, "prompt.answer": "{cot} x", "prompt.answer_prefix": "y", **QUICK},
    "cold": {"steps": 12, "rollout.temperature": 0.05, **QUICK},
    "wild": {"steps": 60, **WILD, **QUICK},
    "short": {"steps": 25, **QUICK},
    "still": {"steps": 20, "optim.lr": 1e-6, **QUICK},
    "risen": {"steps": 40, "validation.every": 20, **QUICK},
    "overdone": {"steps": 100, "optim.lr": 2e-3, "algorithm.kl_weight": 0.0, "alarms.action": "continue", **QUICK},
    "stated": {"steps": 10, "prompt.cot_prefix": " It is", "data.high": 3, **QUICK},
    "clipped": {"recipe": "quickstart-ppo", "steps": 20, "optim.lr": 1e-2, "alarms.action": "continue", **QUICK},
}
"""Settings by the run's name."""


def trained(name: str, settings: Mapping[str, Any], folder: Path) -> Path:
    """The run's folder, once it is trained."""
    runs = folder / "runs"
    if not (runs / name / SUMMARY).is_file():
        changes = {key: value for key, value in settings.items() if key != "recipe"}
        changes |= {"checkpoint.runs_dir": str(runs), "checkpoint.checkpoints_dir": str(folder / "checkpoints")}
        train(settings.get("recipe", "quickstart"), run=name, settings=changes)
    return runs / name


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    triggered: dict[str, list[str]] = {rule.name: [] for rule in RULES}
    for name, settings in RUNS.items():
        folder = trained(name, settings, args.out)
        document = report([open_source(str(folder), folder.parent)])["runs"][0]
        print(f"{name}: {document['verdict']['word']}: {json.dumps(document['advice'])}", flush=True)
        for each in document["advice"]:
            triggered[each["rule"]].append(name)
    for rule, names in triggered.items():
        print(f"{rule}: {', '.join(names) or 'by no run of these'}")


if __name__ == "__main__":
    main()
