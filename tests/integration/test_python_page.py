"""docs/python.md: its examples run as they stand, from top to bottom."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest

import markov_cot
from tests.small_runs import warm

PAGE = Path(__file__).parents[2] / "docs" / "python.md"
OWN = "# mine.py\n"
FEW = {"rollout.length": 8, "validation.problems": 4, "validation.final_problems": 4}


def blocks(page: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def test_the_pages_examples_run_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    names: dict[str, Any] = {"__name__": "page"}
    (own,) = (block for block in blocks(PAGE) if block.startswith(OWN))
    (tmp_path / "mine.py").write_text(own)
    with warm():
        for block in blocks(PAGE):
            if block is not own:
                brief = block.replace('run="first")', f'run="first", settings={FEW})')
                exec(compile(brief, str(PAGE), "exec"), names)
    printed = capsys.readouterr().out
    assert re.search(r"^2 -\d", printed, re.MULTILINE), "the observer's line of step 2"
    run = names["result"].run
    assert (run.name, run.metrics()["step"][-1]) == ("own", 2)
    written = [line.split(",") for line in (run.folder / "mine.csv").read_text().splitlines()]
    assert [float(value) for _, value in written[-2:]] == run.metrics()["reward/answer_logprob"][-2:]
    manifest = (names["result"].checkpoint / "manifest.json").read_text()
    for name in ("rows", "brief", "leave_one_out", "reinforce", "Csv"):
        assert f'"mine:{name}": "sha256 ' in manifest
    assert markov_cot.Run("form").config.reward.form == "mine:least"
    last = {key: values[-1] for key, values in markov_cot.Run("form").metrics().items()}
    assert last["reward/value"] < last["reward/answer_logprob"], "the least probable token's"
    sys.modules.pop("mine")


def test_the_readmes_example_of_an_own_reward_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (block,) = blocks(PAGE.parents[1] / "README.md")
    assert block.count("\n") <= 8
    small = f"steps=2, settings={FEW}"
    assert "steps=120" in block
    names: dict[str, Any] = {"__name__": "page"}
    with warm():
        exec(compile(block.replace("steps=120", small), "README.md", "exec"), names)
    assert names["result"].run.config.reward.function == "page:brief"
    assert len(names["result"].run.metrics()["reward/value"]) == 3
