from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from markov_cot.analysis.sweep_columns import Asked
from markov_cot.analysis.sweep_report import Sweep, SweepRequest, analyse
from markov_cot.config.loading import build_config, dump_config
from markov_cot.utils.errors import UserError

SEEN = "eval/arithmetic/accuracy"


def make_run(folder: Path, name: str, settings: dict[str, Any], scores: list[float], *, has_ended: bool = True) -> None:
    """A run's folder, with a held-out score at steps 0, 10, 20 ... and the last of them at its end."""
    place = folder / name
    place.mkdir(parents=True)
    (place / "config.yaml").write_text(dump_config(build_config(settings, "test")))
    rows = [{"step": 10 * i, SEEN: score, "optim/lr": None} for i, score in enumerate(scores)]
    (place / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"torn')
    if has_ended:
        (place / "summary.json").write_text(json.dumps({"step": 20, "trained": {"n": 4, "accuracy": scores[-1]}}))


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """2 x 2 settings, two seeds each."""
    for i, (lr, rank, seed) in enumerate(itertools.product((1e-4, 3e-4), (4, 8), (0, 1))):
        settings = {"seed": seed, "optim": {"lr": lr}, "lora": {"rank": rank}, "checkpoint": {"every": 100 + i}}
        make_run(tmp_path, f"{i}", settings, [0.0, 0.2 + 0.01 * i, 0.5 + 1000 * lr + 0.01 * rank + 0.01 * seed])
    return tmp_path


def show(folder: Path, *where: str, **asked: Any) -> Sweep:
    return analyse(SweepRequest(folder, Asked(**asked), where))


def test_runs_are_read_with_the_settings_that_vary(runs: Path) -> None:
    found = show(runs)
    assert [each.name for each in found.table.settings] == ["lora.rank", "optim.lr"]
    assert found.table.metric == "trained.accuracy" and found.table.step is None and len(found.table.runs) == 8
    contrast = found.effects["optim.lr"].contrasts["0.0001"]
    assert contrast and contrast.difference == pytest.approx(-0.2)
    assert found.best.curse and found.best.curse.noise.is_replicated, "two seeds of each"
    assert len(found.inputs) == 16 and str(runs / "0" / "summary.json") in found.inputs


def test_over_the_steps_of_the_logs(runs: Path) -> None:
    found = show(runs, metric=SEEN)
    assert found.table.step and found.table.step.levels == ("10", "20"), "step 0 is the base"
    assert found.plateau and found.plateau.runs == 8 and str(runs / "0" / "log.jsonl") in found.inputs
    assert len(show(runs, "lora.rank=4", metric=SEEN).table.runs) == 4


def test_runs_that_have_not_ended_or_cannot_be_read_are_left_out(runs: Path) -> None:
    make_run(runs, "going", {"optim": {"lr": 1e-3}}, [0.1, 0.2], has_ended=False)
    make_run(runs, "old", {}, [0.1])
    (runs / "old" / "config.yaml").write_text("nothing: 1\n")
    (runs / "0" / "summary.json").write_text("{")
    found = show(runs)
    assert len(found.table.runs) == 7
    assert "runs without trained.accuracy are left out: 0, going" in found.table.notes
    assert any("runs that cannot be read are left out" in note and "nothing" in note for note in found.table.notes)


def test_a_copied_run_counts_once(runs: Path) -> None:
    make_run(runs, "copy", {"seed": 0, "optim": {"lr": 1e-4}, "lora": {"rank": 4}, "checkpoint": {"every": 100}},
             [0.0, 0.2, 0.5 + 1000 * 1e-4 + 0.01 * 4])  # fmt: skip
    found = show(runs)
    assert len(found.table.runs) == 8 and found.table.notes[-1].endswith("value for value, are dropped: copy")


def test_folders_that_are_no_sweep(runs: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    for folder, asked, message in (
        (empty, {}, "has no run"),
        (runs, {"metric": "trained.acc"}, "no run in .* has it; did you mean trained.accuracy?"),
        (runs, {"settings": ("lora.rnak",)}, "did you mean lora.rank?"),
    ):
        with pytest.raises(UserError, match=message):
            show(folder, **asked)
    make_run(empty, "one", {}, [0.0, 0.1], has_ended=False)
    with pytest.raises(UserError, match="none of the 1 runs has ended; name a metric of their logs with --metric"):
        show(empty)
    with pytest.raises(UserError, match="has one run only"):
        show(empty, metric=SEEN)
    (empty / "one" / "config.yaml").write_text("[]")
    with pytest.raises(UserError, match="none of the runs in it can be read"):
        show(empty)
