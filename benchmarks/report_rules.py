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
from markov_cot.utils.layout import CONFIG

WILD = {"algorithm.kl_weight": 0.0, "optim.lr": 1e-2, "alarms.action": "continue"}
RUNS: dict[str, dict[str, Any]] = {
    "unreadable": {"steps": 5, "prompt.answer": "{cot} x", "prompt.answer_prefix": "y"},
    "cold": {"steps": 8, "rollout.temperature": 1e-3},
    "wild": {"steps": 60, **WILD},
    "hot": {"steps": 60, "rollout.temperature": 2.0, "algorithm.kl_weight": 0.0, "optim.lr": 2e-3},
    "short": {"steps": 25},
    "still": {"steps": 20, "optim.lr": 1e-6},
    "risen": {"steps": 40, "validation.every": 20},
    "overdone": {"steps": 100, "optim.lr": 2e-3, "algorithm.kl_weight": 0.0, "alarms.action": "continue"},
    "clipped": {
        "recipe": "quickstart-ppo",
        "steps": 9,
        "algorithm.inner_epochs": 8,
        "algorithm.inner_kl_stop": 0.0,
        "optim.lr": 1e-2,
        "alarms.action": "continue",
    },
    "rough": {"steps": 8, "model.dtype": "bfloat16", "optim.lr": 1e-2, "alarms.action": "continue"},
    "overflown": {"steps": 5, "optim.lr": 1e30, "alarms.action": "continue"},
    "crowded": {"steps": 12},
}
"""Settings by the run's name."""
OWN: dict[str, list[dict[str, Any]]] = {
    "crowded": [
        {"question": f"What is {i}+{i + 1}?" + " Add." * 900 * (i % 4 == 0), "answer": 2 * i + 1} for i in range(80)
    ],
}
"""Data of one's own: every fourth question longer than the model's context."""


def trained(name: str, settings: Mapping[str, Any], folder: Path) -> Path:
    """The run's folder, once it is trained."""
    runs = folder / "runs"
    if not (runs / name / CONFIG).is_file():
        changes = {key: value for key, value in settings.items() if key != "recipe"}
        changes |= {"checkpoint.runs_dir": str(runs), "checkpoint.checkpoints_dir": str(folder / "checkpoints")}
        if name in OWN:
            path = folder / f"{name}.jsonl"
            path.write_text("".join(json.dumps(row) + "\n" for row in OWN[name]), encoding="utf-8")
            changes["data.dataset"] = str(path)
        train(settings.get("recipe", "quickstart"), run=name, settings={"validation.final_problems": 100} | changes)
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
