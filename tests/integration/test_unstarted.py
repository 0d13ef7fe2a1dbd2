"""A command that ends before its first step leaves nothing that stands in the way of the corrected one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from markov_cot.cli.main import main
from markov_cot.training.trainer import Trainer
from markov_cot.utils.errors import UserError
from tests.small_runs import warm

SETTINGS = {
    "rollout.length": 8,
    "rollout.samples": 2,
    "rollout.problems": 1,
    "data.terms": "[2,2]",
    "validation.problems": 2,
    "validation.final_problems": 2,
}
SMALL = [word for key, value in SETTINGS.items() for word in ("--set", f"{key}={value}")]
COMMAND = ("train", "--run", "p4", "--steps", "1", *SMALL)


@pytest.fixture(scope="module", autouse=True)
def _warm() -> Iterator[None]:
    with warm():
        yield


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def cli(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stopped:
        main(list(arguments))
    return stopped.value.code if isinstance(stopped.value.code, int) else 0


def fail(error: BaseException) -> Callable[..., object]:
    def failing(*_: object, **__: object) -> object:
        raise error

    return failing


def test_too_few_steps_to_profile_are_refused_before_anything_is_made(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli("train", "--run", "p4", "--profile", "--steps", "4", *SMALL) == 2
    assert "--profile: needs 5 steps, and 4 are left; raise --steps" in capsys.readouterr().err
    assert not Path("runs").exists() and not Path("checkpoints").exists()
    assert cli("train", "--run", "p4", "--profile", "--steps", "5", *SMALL) == 0


TOO_SMALL, FULL = UserError("the smallest part does not fit"), OSError(28, "No space left")


@pytest.mark.parametrize(
    ("place", "error", "code"),
    [
        ("__init__", TOO_SMALL, 2),
        ("_open_tracker", FULL, 2),
        ("_open_tracker", KeyboardInterrupt(), 130),
        ("_validate", TOO_SMALL, 2),
        ("step", FULL, 2),
        ("step", KeyboardInterrupt(), 130),
    ],
)
def test_a_start_that_fails_at_any_point_leaves_the_name_free(place: str, error: BaseException, code: int) -> None:
    """From the making of the folders to the end of the first step."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, place, fail(error))
        assert cli(*COMMAND) == code
    assert not Path("runs").exists() and not Path("checkpoints").exists()
    assert cli(*COMMAND) == 0


def test_what_was_there_before_stays() -> None:
    mine = Path("runs/p4/notes.txt")
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "_validate", fail(UserError("no")))
        assert cli(*COMMAND) == 2
    assert [path.name for path in mine.parent.iterdir()] == ["notes.txt"]
    assert not Path("checkpoints").exists()


def test_a_run_that_has_steps_stays() -> None:
    steps = iter([True, False])
    original = Trainer.step
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            Trainer, "step", lambda *args: original(*args) if next(steps) else fail(UserError("out of memory"))()
        )
        assert cli("train", "--run", "p4", "--steps", "3", *SMALL) == 2
    assert Path("runs/p4/log.jsonl").read_text().count("\n") == 2
    assert cli("train", "--run", "p4", "--resume") == 0


def test_a_resumed_run_is_never_taken_back() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "_conclude", fail(KeyboardInterrupt()))
        assert cli(*COMMAND) == 130
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "_open_tracker", fail(UserError("no")))
        assert cli("train", "--resume") == 2
    assert Path("runs/p4/config.yaml").is_file() and Path("checkpoints/p4/adapter_1").is_dir()


def test_resume_takes_the_newest_run_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli("train", "--resume") == 2
    assert "--resume: there are no runs in runs/; leave it out to start one" in capsys.readouterr().err
    assert cli(*COMMAND) == 0
    assert cli("train", "--resume", "--steps", "2") == 0
    assert "resuming p4, the newest run" in capsys.readouterr().err
    assert Path("checkpoints/p4/adapter_2").is_dir()
    assert cli("train", "--resume", "--run", "p5") == 2
    assert "did you mean p4; leave out --resume" in capsys.readouterr().err
