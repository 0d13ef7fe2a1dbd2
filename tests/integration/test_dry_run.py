"""`markov-cot train --dry-run`: it refuses what a run would, counts what a run would take, and writes nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from markov_cot.cli.dry_run import _size, _time
from markov_cot.training import dry_run
from markov_cot.training.setup import open_session
from markov_cot.training.state import RunState
from markov_cot.training.trainer import Trainer
from tests.command_fixtures import SMALL, Cli
from tests.small_runs import config_of, run, warm

KEYS = "steps step_seconds total_seconds peak_memory_bytes disk_bytes parameters trainable_parameters"


@pytest.fixture(scope="module", autouse=True)
def _warm() -> Iterator[None]:
    with warm():
        yield


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def files() -> list[str]:
    return sorted(str(path) for path in Path().rglob("*"))


def test_it_prints_what_to_expect_and_writes_nothing(here: Path, cli: Cli) -> None:
    Path("mine.txt").write_text("mine")
    code, out, err = cli("train", "--dry-run", *SMALL, "--json")
    assert code == 0, err
    document = json.loads(out)
    assert list(document) == KEYS.split()
    assert document["steps"] == 1 and document["total_seconds"] > document["step_seconds"] > 0
    assert document["parameters"] > document["trainable_parameters"] > 0
    assert document["peak_memory_bytes"] > 1 << 26 and document["disk_bytes"] > 0
    code, out, err = cli("train", "--dry-run", "--run", "r", *SMALL)
    assert code == 0 and "all is well, and nothing was written" in out, err
    for word in ("steps", "run time", "peak memory", "disk", "parameters"):
        assert f"\n{word}" in out
    assert files() == ["mine.txt"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--json"], "--json: has a meaning only with --dry-run"),
        (["--dry-run", "--resume"], "--dry-run: is of a run that starts, and writes nothing; leave out --resume"),
        (["--dry-run", "--profile"], "leave out --profile"),
        (["--dry-run", "--set", "optim.lrr=1"], "unknown key optim.lrr"),
        (["--dry-run", "--set", "rollout.length=1020"], "longer than the model's context"),
        (["--dry-run", "--set", "lora.init=nowhere/at"], "lora.init nowhere/at: is no folder"),
        (["--dry-run", "--set", "checkpoint.runs_dir=file"], "file: is not a folder; choose another folder"),
        (
            ["--dry-run", "--set", "tracking.trackers=[nothing:here]"],
            "tracker nothing:here: nothing cannot be",
        ),
        (["--dry-run", "--set", "reward.function=nothing:here"], "reward nothing:here: nothing cannot be imported"),
    ],
)
def test_what_a_run_would_refuse(arguments: list[str], expected: str, here: Path, cli: Cli) -> None:
    Path("file").write_text("")
    code, out, err = cli("train", *SMALL, *arguments)
    assert code == 2 and not out and expected in err and err.count("\n") == 1, err
    assert files() == ["file"]


def test_a_name_that_is_taken(here: Path, cli: Cli) -> None:
    assert cli("train", "--run", "r", *SMALL)[0] == 0
    before = {name: Path(name).stat().st_mtime_ns for name in files()}
    code, _, err = cli("train", "--run", "r", "--dry-run", *SMALL)
    assert code == 2 and "runs/r exists already" in err
    assert {name: Path(name).stat().st_mtime_ns for name in files()} == before


class Clock:
    """Moves on only when a test moves it."""

    def __init__(self) -> None:
        self.now = 100.0

    def perf_counter(self) -> float:
        return self.now


def test_what_is_done_once_in_a_while_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps of 2 s, 3 more with the baseline, 10 more for the first; 0.5 s a problem of a validation; 1 s a save."""
    config = config_of(
        tmp_path,
        steps=25,
        validation={"every": 10, "problems": 4, "final_problems": 6, "batch": 3},
        checkpoint={"every": 10, "keep": 2},
        tracking={"rollouts": 5},
    )
    clock = Clock()
    monkeypatch.setattr(dry_run, "time", clock)
    step, score, render = Trainer.step, Trainer.score, RunState.render

    def timed_step(self: Trainer, tracker: Any) -> Any:
        index = self.state.progress.step
        clock.now += 2 + 3 * (index % 10 == 0) + 10 * (index == 0)
        return step(self, tracker)

    def timed_score(self: Trainer, writer: Any, problems: Any) -> Any:
        clock.now += 0.5 * len(problems)
        return score(self, writer, problems)

    def timed_render(self: RunState) -> dict[str, bytes]:
        clock.now += 1
        return render(self)

    monkeypatch.setattr(Trainer, "step", timed_step)
    monkeypatch.setattr(Trainer, "score", timed_score)
    monkeypatch.setattr(RunState, "render", timed_render)
    session = open_session(config, "r", "test", resume=False, writes=False)
    found = dry_run.estimate(session, started=90.0)
    assert found.setup_seconds == 10
    assert found.steps_seconds == 15 + 2 * 5 + 22 * 2
    # At steps 0, 10 and 20, and twice at the end.
    assert found.validation_seconds == 3 * 4 * 0.5 + 2 * 6 * 0.5
    # Steps 0, 10, 20 and 25.
    assert (found.saving_seconds, found.checkpoints) == (4, 4)
    assert found.total_seconds == 10 + 69 + 12 + 4
    assert found.step_seconds == 69 / 25


def test_the_disk_it_expects_is_what_a_run_takes(tmp_path: Path) -> None:
    config = config_of(tmp_path, steps=6, tracking={"rollouts": 2}, checkpoint={"keep": 1})
    session = open_session(config, "r", "test", resume=False, writes=False)
    found = dry_run.estimate(session, started=0.0)
    assert not list(tmp_path.iterdir())
    run(config)
    taken = sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file() and not path.is_symlink())
    left = len(list((tmp_path / "checkpoints" / "r").glob("adapter_*")))
    assert found.checkpoints >= left
    assert found.disk_bytes - (found.checkpoints - left) * found.checkpoint_bytes == pytest.approx(taken, rel=0.15)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.123, "0.12 s"), (45.6, "46 s"), (85, "1 min 25 s"), (7325, "2 h 2 min"), (100_000, "1 d 4 h")],
)
def test_times(seconds: float, text: str) -> None:
    assert _time(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 bytes"), (900, "900 bytes"), (2048, "2.0 KiB"), (300 << 20, "300 MiB"), (5 << 40, "5.0 TiB")],
)
def test_sizes(count: int, text: str) -> None:
    assert _size(count) == text
