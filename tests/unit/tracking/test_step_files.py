"""Rows kept step by step: whole files, dropped where a run goes back."""

from __future__ import annotations

from pathlib import Path

import pytest

from markov_cot.tracking.step_files import StepFiles, kept_steps, read_final, read_step, render
from markov_cot.utils.errors import UserError


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    folder = tmp_path / "validation"
    StepFiles(folder, -1).write(20, [{"cot": "\x00\ud800 ü"}, {"cot": ""}])
    assert kept_steps(folder) == [20]
    assert read_step(folder, 20) == [{"cot": "\x00\ud800 ü"}, {"cot": ""}]


def test_going_back_drops_later_steps_and_the_end(tmp_path: Path) -> None:
    files = StepFiles(tmp_path, -1)
    for step in (0, 10, 20):
        files.write(step, [{"step": step}])
    files.finish("base", [{"right": True}])
    assert read_final(tmp_path, "base") == [{"right": True}] and read_final(tmp_path, "trained") == []
    files.rewind(10)
    assert kept_steps(tmp_path) == [0, 10] and read_final(tmp_path, "base") == []
    StepFiles(tmp_path, 0)
    assert kept_steps(tmp_path) == [0]


def test_the_same_rows_are_the_same_bytes() -> None:
    assert render([{"a": 1}]) == render([{"a": 1}]) != render([{"a": 2}])


def test_damage_is_named(tmp_path: Path) -> None:
    (tmp_path / "step_000003.jsonl.gz").write_bytes(render([{"a": 1}])[:-9])
    with pytest.raises(UserError, match=r"step_000003\.jsonl\.gz: is damaged"):
        read_step(tmp_path, 3)
