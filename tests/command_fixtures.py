"""A short run to evaluate, and the command line called from within the tests."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Cli = Callable[..., tuple[int, str, str]]

LENGTH = 12
SMALL = [
    "--steps",
    "1",
    *(
        f"--set={setting}"
        for setting in (
            "rollout.length=8",
            "rollout.samples=2",
            "rollout.problems=1",
            "data.terms=[2,2]",
            "validation.problems=2",
            "validation.final_problems=2",
            "validation.reader_check=0",
        )
    ),
]
"""Options of a run that takes a second."""


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with runs/r and checkpoints/r/adapter_0, _2, _4: four steps on sums of two or three terms."""
    return train_small(tmp_path_factory.mktemp("trained"), lr=3e-2)


def train_small(folder: Path, lr: float) -> Path:
    """Train runs/r in a folder, four steps on sums, and return the folder."""
    from markov_cot.config.loading import build_config
    from markov_cot.training.setup import open_session
    from markov_cot.training.trainer import Trainer

    values: dict[str, Any] = {
        "steps": 4,
        "data": {"dataset": "arithmetic", "terms": [2, 3]},
        "rollout": {"problems": 2, "samples": 4, "length": LENGTH},
        "optim": {"lr": lr},
        "validation": {"every": 2, "problems": 4, "final_problems": 4},
        "checkpoint": {"every": 2, "runs_dir": str(folder / "runs"), "checkpoints_dir": str(folder / "checkpoints")},
    }
    Trainer(open_session(build_config(values, "test"), "r", "test", resume=False)).run(lambda *_: None)
    return folder


@pytest.fixture
def workplace(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the run, with a file of choices beside it, as the current folder; nothing else can be reached."""
    shutil.copytree(trained, tmp_path, symlinks=True, dirs_exist_ok=True)
    write_choices(tmp_path / "choices.jsonl")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MARKOV_COT_DATA", raising=False)
    # These read the environment when they are imported, which another test may have done already.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Cli:
    """Runs a command; returns its exit code, stdout and stderr."""
    from markov_cot.cli.main import main

    def run(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stopped:
            main(list(arguments))
        captured = capsys.readouterr()
        code = stopped.value.code
        return (code if isinstance(code, int) else 0), captured.out, captured.err

    return run


def write_choices(path: Path, count: int = 40) -> None:
    """Questions with three choices of unequal length, from which the three splits are made."""
    rows = [
        {"question": f"What is {i}+{i + 3}?", "choices": [str(2 * i + 3), f"{i} hundred", "3"], "answer": "ABC"[i % 3]}
        for i in range(count)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
