"""Sweeps whose cells are stand-ins (sweep_stub.py) with a behaviour of the test's choice."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from markov_cot.training.sweep_plan import Sweep

Behave = Callable[..., None]

STUB = Path(__file__).with_name("sweep_stub.py")
GRID = "recipe: quickstart\nsettings: {steps: 1}\ngrid: {optim.lr: [1e-4, 3e-4]}\nseeds: [0, 1]\n"
NAMES = ["001-lr0.0001-seed0", "002-lr0.0003-seed0", "003-lr0.0001-seed1", "004-lr0.0003-seed1"]
"""Its cells."""


@pytest.fixture
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The current folder, and a terminal of 120 columns."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")


@pytest.fixture
def behave(monkeypatch: pytest.MonkeyPatch) -> Behave:
    """Cells are stand-ins, which are done unless their number is given another behaviour."""
    from markov_cot.training import sweep_cell, sweep_local

    def set_up(others: Mapping[int, str] | None = None) -> None:
        def command(folder: Path, cell: str) -> list[str]:
            return [sys.executable, str(STUB), str(folder), cell, (others or {}).get(int(cell[:3]), "done")]

        monkeypatch.setattr(sweep_cell, "train_command", command)

    monkeypatch.setattr(sweep_local, "POLL_SECONDS", 0.01)
    set_up()
    return set_up


def write(text: str = GRID, name: str = "g.yaml") -> Path:
    """A sweep's file."""
    path = Path(name)
    path.write_text(text)
    return path


def planned(text: str = GRID) -> Sweep:
    """A sweep that is ready to run."""
    from markov_cot.training.sweep_plan import plan_sweep, write_plan

    sweep = plan_sweep(write(text))
    write_plan(sweep)
    return sweep


def attempts(cell: str) -> list[int]:
    """Exit codes of a cell's attempts."""
    from markov_cot.training.sweep_cell import read_attempts

    return [each.exit_code for each in read_attempts(Path("runs/g"), cell)]


def refused(result: tuple[int, str, str]) -> str:
    """The one line of an error with exit code 2."""
    code, out, err = result
    assert (code, out, err.count("\n")) == (2, "", 1) and "Traceback" not in err
    return err
