"""The import contract of setup.cfg, which the rooms keep."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_imports_point_one_way() -> None:
    """In a process of its own, because import-linter disables the loggers of the one it runs in."""
    command = "from importlinter.cli import lint_imports_command as main; main(['--no-cache'])"
    done = subprocess.run([sys.executable, "-c", command], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_every_room_has_its_layer() -> None:
    contract = (ROOT / "setup.cfg").read_text(encoding="utf-8")
    rooms = {path.parent.name for path in (ROOT / "markov_cot").glob("*/__init__.py")}
    layers = contract.split("layers =")[1].split("\n\n")[0].replace("|", " ").split()
    assert sorted(f"markov_cot.{room}" for room in rooms) == sorted(set(layers) - {"markov_cot.api"})
