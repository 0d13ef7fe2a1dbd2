"""The import contract of setup.cfg, which the rooms keep."""

from __future__ import annotations

from pathlib import Path

import pytest
from importlinter.cli import EXIT_STATUS_SUCCESS, lint_imports

ROOT = Path(__file__).parents[2]


def test_imports_point_one_way(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(ROOT)
    assert lint_imports(cache_dir=str(tmp_path), is_debug_mode=False) == EXIT_STATUS_SUCCESS


def test_every_room_has_its_layer() -> None:
    contract = (ROOT / "setup.cfg").read_text(encoding="utf-8")
    rooms = {path.parent.name for path in (ROOT / "markov_cot").glob("*/__init__.py")}
    layers = contract.split("layers =")[1].split("\n\n")[0].replace("|", " ").split()
    assert sorted(f"markov_cot.{room}" for room in rooms) == sorted(set(layers) - {"markov_cot.api"})
