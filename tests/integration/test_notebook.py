"""docs/quickstart.ipynb: its code cells run in order in a plain interpreter."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

NOTEBOOK = Path(__file__).parents[2] / "docs" / "quickstart.ipynb"
OWN_REWARD = "steps=3, settings=settings, reward=without_repeats"
FEW = {"validation.problems": 4, "validation.final_problems": 4}
"""Of the run with a reward of one's own, whose accuracy nothing is said of."""
AFTERWARDS = """
import json
metrics = result.run.metrics()
print(json.dumps({
    "steps": metrics["step"],
    "lines": [len(axes.lines[0].get_xdata()) for axes in figure.axes],
    "accuracy": [result.base.accuracy, result.trained.accuracy, scores.accuracy],
    "reward": own.run.config.reward.function,
    "values": own.run.metrics()["reward/value"][1:],
    "logprobs": own.run.metrics()["reward/answer_logprob"][1:],
}))
"""


def cells(kind: str) -> list[str]:
    notebook: dict[str, Any] = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    return ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == kind]


def test_it_is_a_notebook_without_outputs() -> None:
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert len({cell["id"] for cell in notebook["cells"]}) == len(notebook["cells"])
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    linked = [NOTEBOOK.parent / name for name in ("python.md", "metrics.md")]
    assert all(f"({path.name})" in "".join(cells("markdown")) and path.is_file() for path in linked)


@pytest.mark.slow
def test_its_cells_run_in_order(tmp_path: Path) -> None:
    script = tmp_path / "cells.py"
    code = "\n".join([*cells("code"), AFTERWARDS])
    assert code.count(OWN_REWARD) == 1
    brief = code.replace(OWN_REWARD, OWN_REWARD.replace("settings,", f"settings | {FEW},"))
    script.write_text(brief, encoding="utf-8")
    packages = os.pathsep.join([str(NOTEBOOK.parents[1]), os.environ.get("PYTHONPATH", "")])
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONWARNINGS", "TRANSFORMERS_VERBOSITY")}
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=tmp_path,
        env=environment | {"MPLBACKEND": "Agg", "PYTHONPATH": packages, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == "", "no bars and no warnings between the cells"
    left = json.loads(done.stdout.splitlines()[-1])
    assert left["steps"] == list(range(21)) and left["lines"] == [20, 5]
    base, trained, tested = left["accuracy"]
    assert trained > base + 0.2 and tested > base + 0.2, "20 steps teach it"
    assert left["reward"] == "__main__:without_repeats"
    assert all(value <= logprob for value, logprob in zip(left["values"], left["logprobs"], strict=True))
    assert "step 20, reward" in done.stdout
