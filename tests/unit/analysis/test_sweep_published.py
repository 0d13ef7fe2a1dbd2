"""Real sweeps, where $MARKOV_COT_DATA names them: figures that were worked out apart from this code."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from markov_cot.analysis.sweep_cautions import cautions
from markov_cot.analysis.sweep_columns import Asked
from markov_cot.analysis.sweep_report import Sweep, SweepRequest, analyse
from tests.sweeps import write_csv

FOLDER = Path(os.environ.get("MARKOV_COT_DATA", ""), "sweeps")
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="MARKOV_COT_DATA names no folder with sweeps")

TULU = "tulu3_lora_arena_hard_270.csv"
"""30 LoRA runs of 9 checkpoints: a grid of 27 and 3 called "default"; scores read off a plot, good to 0.1."""
GRID = ("config!=default",)


def show(name: str, *where: str, settings: tuple[str, ...] = (), patterns: tuple[str, ...] = ()) -> Sweep:
    return analyse(SweepRequest(FOLDER / name, Asked(settings=settings), where, patterns))


def test_shares_of_the_grid() -> None:
    found = show(TULU, *GRID)
    assert (len(found.table.runs), len(found.table.y_N), found.shares.method) == (27, 243, "anova")
    percent = {term: round(100 * each.share, 1) for term, each in found.shares.terms.items()}
    assert percent["learning_rate",] == 71.7
    assert percent["step",] == 8.5
    assert percent["rank",] == 2.0
    assert percent["rank", "learning_rate"] == 6.8


def test_ranks_standard_error_by_runs_and_by_rows() -> None:
    contrast = show(TULU, *GRID, settings=("learning_rate", "rank")).effects["rank"].contrasts["64"]
    assert contrast and contrast.stderr == pytest.approx(1.125, abs=0.0005)
    assert contrast.stderr_rows == pytest.approx(0.439, abs=0.0005)


def test_rank_helps_at_one_learning_rate_and_not_at_another() -> None:
    found = show(TULU, *GRID).cells["rank", "learning_rate"]
    means = [[round(cell.mean, 1) for cell in row if cell.mean is not None] for row in found.cells]
    assert [row[1] for row in means] == [16.0, 18.5, 22.2] and [row[2] for row in means] == [20.9, 20.1, 17.6]
    assert found.corner and (found.corner.levels, found.corner.at) == (("64", "1024"), ("1e-05", "5e-05"))
    assert found.corner.size == pytest.approx(9.5, abs=0.05) and found.corner.stderr == pytest.approx(1.9, abs=0.05)
    assert found.is_unequal
    final = show(TULU, *GRID, "step=55000").cells["rank", "learning_rate"].corner
    assert final and final.size == pytest.approx(7.6, abs=0.05) and final.stderr == pytest.approx(3.2, abs=0.05)


def test_checkpoints() -> None:
    found = show(TULU).plateau
    assert found and found.runs == 30
    assert found.best.mean == pytest.approx(2.19, abs=0.005)
    peak = next(row.difference for row in found.rows if row.step == "36000")
    assert (round(peak.mean, 2), round(peak.stderr or 0, 2), peak.above) == (1.49, 0.39, 22)
    assert found.peak == "36000" and found.flat_from == "42000"


def test_what_was_concluded_and_the_data_do_not_carry() -> None:
    """The report on this sweep took rank 256, "default" settings, 36,000 steps and 5e-5 for the best there are."""
    found = show(TULU)
    assert found.table.left_out["config"] == "follows from learning_rate"
    assert found.table.left_out["read"] == "changes within a run"
    text = "\n".join(cautions(found))
    for line in (
        "one run a combination: what another seed would change is unknown",
        "config=default stands for learning_rate=2e-05 and warmup_ratio=0.03, which occur together only (3 runs)",
        "it compares default (20.43; learning_rate 2e-05), with grid (15.36; learning_rate 1e-06, 1e-05, 5e-05)",
        "rank: 1024 cannot be told from 64 (-2.22 ± 1.11), 256 (-0.79 ± 1.11)",
        "rank: the best single value (27.80) has 256, the best mean has 1024 (16.87 against 16.08)",
        "learning_rate: 5e-05 cannot be told from 1e-05 (-0.67 ± 1.17)",
        "rank: which is best depends on learning_rate (1024 at 1e-06 and 1e-05, 256 at 2e-05, 64 at 5e-05)",
        "step 36000 is a peak and no plateau: above the final one by 1.49 ± 0.39 in 22 of 30 runs",
        "the best single value, 27.80, is the best of 270; the mean of its run is 23.03",
    ):
        assert line in text


def test_names_alone_say_the_grid_and_rows_that_were_loaded_twice_count_once(tmp_path: Path) -> None:
    """As the sweep's authors had it: names and scores, 27 of them twice."""
    table = show(TULU).table
    assert table.step
    steps = ["final" if step == "55000" else f"step{step}" for step in table.step.levels]
    rows = [
        (f"{table.runs[run]}-{steps[step]}", y)
        for run, step, y in zip(table.run_N, table.step.codes, table.y_N, strict=True)
    ]
    twice = [row for row in rows if row[0].endswith("-final") and "default" not in row[0]]
    assert (len(rows), len(twice)) == (270, 27)
    path = write_csv(tmp_path / "debug.csv", "model score", *rows, *twice)
    patterns = ("rank{rank}-alpha{learning_rate:e-}-{warmup_ratio:0.}", "rank{rank}-default{learning_rate=2e-5}")
    found = analyse(SweepRequest(path, patterns=patterns, where=("learning_rate!=2e-5",)))
    assert found.table.notes[0].startswith("270 rows were read, of which 27 repeat an earlier one and are dropped")
    assert len(found.table.y_N) == 243
    assert round(100 * found.shares.terms["learning_rate",].share, 1) == 71.7
    whole = analyse(SweepRequest(path, patterns=patterns))
    assert whole.table.notes[0].startswith("297 rows were read, of which 27 repeat an earlier one and are dropped")
    assert len(whole.table.runs) == 30 and whole.best.row == 27.8


def test_an_unbalanced_sweep() -> None:
    found = show("peft_metamathqa_63_runs.csv")
    assert (found.table.metric, len(found.table.runs), found.shares.method) == ("test_accuracy", 63, "shapley")
    assert [each.name for each in found.table.settings] == ["rank", "lora_alpha", "learning_rate", "weight_decay"]
    mains = [each for term, each in found.shares.terms.items() if len(term) == 1]
    assert sum(each.share for each in mains) == pytest.approx(found.shares.explained) and 0 < found.shares.explained < 1
    assert all(each.low is not None and each.high is not None and each.low < each.high for each in mains)
    assert found.best.row == pytest.approx(694 / 1319)
