"""After a critical alarm there is a healthy checkpoint to continue from, and the printed command does."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from markov_cot.alarms.monitor import Event, Monitor
from markov_cot.checkpoints import checkpoint as checkpoints
from markov_cot.checkpoints.checkpoint import list_steps
from markov_cot.checkpoints.manifest import read_manifest
from markov_cot.cli.main import main
from markov_cot.utils.errors import UserError
from tests.small_runs import config_of, lines, run, start, warm

CRITICAL_AT_ONCE = {"warn": 1e-9, "critical": 2e-9, "hard": 3e-9}
SETTINGS = {
    "rollout.length": 8,
    "rollout.samples": 4,
    "rollout.problems": 1,
    "data.terms": "[2,2]",
    "validation.problems": 2,
    "validation.final_problems": 2,
}
SMALL = [word for key, value in SETTINGS.items() for word in ("--set", f"{key}={value}")]


@pytest.fixture(scope="module", autouse=True)
def _warm() -> Iterator[None]:
    with warm():
        yield


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    return tmp_path


def cli(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stopped:
        main(list(arguments))
    return stopped.value.code if isinstance(stopped.value.code, int) else 0


def names(folder: Path) -> list[str]:
    return [path.name for path in list_steps(folder)]


def steps_logged(run_folder: Path) -> list[int]:
    return [json.loads(line)["step"] for line in (run_folder / "log.jsonl").read_text().splitlines()]


def printed_command(err: str) -> list[str]:
    """The one command that the end of a stopped run prints, as the shell would split it."""
    [line] = [line for line in err.splitlines() if line.startswith("  ") and "--checkpoint" in line]
    return shlex.split(line)


# --- the printed command


@pytest.mark.parametrize("run_name", ["a", "two words"])
def test_the_printed_command_trains_on(
    workplace: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture, run_name: str
) -> None:
    """The alarm comes before the first scheduled checkpoint, with settings that are far off."""
    where = ["--set", "checkpoint.runs_dir=my runs", "--set", "checkpoint.checkpoints_dir=kept"]
    assert cli("train", "--run", run_name, "--steps", "12", *SMALL, *where, "--set", "optim.lr=0.1") == 3
    err = capsys.readouterr().err
    stopped_at = steps_logged(workplace / "my runs" / run_name)[-1]
    assert names(workplace / "kept" / run_name) == ["adapter_0", f"adapter_{stopped_at}"]
    command = printed_command(err)
    assert command[1:] == [
        *("train", "--run", run_name, "--resume", "--checkpoint", "adapter_0", "--accept-changes"),
        *("--set", "optim.lr=0.0001", "--set", "checkpoint.runs_dir=my runs"),
    ]
    assert cli(*command[1:]) == 0
    assert steps_logged(workplace / "my runs" / run_name) == list(range(13))
    kept = workplace / "kept" / run_name
    assert (kept / "latest").resolve().name == "adapter_12"
    assert (kept / f"abandoned_adapter_{stopped_at}" / "manifest.json").is_file(), "nothing is lost"
    alarms = (workplace / "my runs" / run_name / "alarms.jsonl").read_text().splitlines()
    assert [json.loads(line)["level"] for line in alarms][:1] == ["critical"], "they say why the run went back"
    assert f"adapter_{stopped_at} is of a later step; it is kept as abandoned_adapter_{stopped_at}" in caplog.text
    assert "the log loses what is of later steps" in capsys.readouterr().err


def test_doctor_prints_the_same_command(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli("train", "--run", "a", "--steps", "12", *SMALL, "--set", "optim.lr=0.1") == 3
    command = printed_command(capsys.readouterr().err)
    assert cli("doctor") == 3
    out = capsys.readouterr().out
    assert shlex.join(command[1:]) in out
    example = re.search(r'Example CoT: "(.*?)"', out)
    last = [json.loads(line) for line in Path("runs/a/samples.jsonl").read_text().splitlines()][-1]
    assert example and example[1] == " ".join(last["cot"].split()), "of the step of the alarm"
    assert last["step"] == steps_logged(Path("runs/a"))[-1]


def test_advice_is_not_repeated_after_a_resume(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Another alarm of the resumed run, whose advice is what the first one's was."""
    assert cli("train", "--run", "a", "--steps", "30", *SMALL, "--set", "optim.lr=0.1") == 3
    advice = "Lower optim.lr (now 0.1), raise algorithm.kl_weight"
    first = " ".join(capsys.readouterr().err.split())
    assert first.count(advice) == 1
    assert cli("train", "--resume") == 3
    second = " ".join(capsys.readouterr().err.split())
    assert "resuming a, the newest run" in second
    assert "critical: " in second and advice not in second
    assert "What to change: " in second


@pytest.mark.parametrize(
    ("alarm", "expected"),
    [("kl", {"optim.lr": 2e-5}), ("leak", {"algorithm.kl_weight": 0.3}), ("dead_groups", {"rollout.samples": 8})],
)
def test_the_change_fits_the_alarm(alarm: str, expected: dict[str, float]) -> None:
    from markov_cot.alarms.advice import remedy

    settings = {
        "optim.lr": 1e-4,
        "algorithm.kl_weight": 0.1,
        "rollout.samples": 4,
        "alarms.rollback_lr_factor": 0.2,
    }
    assert remedy([alarm], settings) == expected


# --- what is kept


def test_pruning_keeps_the_newest_up_to_each_bound(tmp_path: Path) -> None:
    for step in (0, 2, 4, 6, 8):
        (tmp_path / f"adapter_{step}").mkdir()
    checkpoints.prune(tmp_path, 1, [5, 3])
    assert names(tmp_path) == ["adapter_2", "adapter_4", "adapter_8"]
    checkpoints.prune(tmp_path, 1, [1])
    assert names(tmp_path) == ["adapter_8"], "nothing is that old"


@pytest.mark.parametrize(("keep", "every", "onset"), [(1, 1, 1), (1, 1, 5), (1, 3, 6), (2, 3, 2)])
def test_a_checkpoint_from_before_the_onset_is_left(tmp_path: Path, keep: int, every: int, onset: int) -> None:
    """A slow alarm: it warns from `onset` on, and is critical only four steps later."""
    made = start(config_of(tmp_path, steps=12, checkpoint={"keep": keep, "every": every}, alarms={"action": "stop"}))
    monitor = made.state.monitor
    original = monitor.update

    def update(step: int, metrics: Any, example: str | None = "") -> list[Event]:
        kl = 2.5 if step >= onset else 0.0
        return original(step, {"policy/kl": kl} if step else {}, example)

    levels = made.session.config.alarms.kl.model_copy(update={"patience": 4})
    made.state.monitor = Monitor(made.session.config.alarms.model_copy(update={"kl": levels}))
    original = made.state.monitor.update
    made.state.monitor.update = update  # type: ignore[method-assign]
    outcome = made.run(lambda *_: None)
    assert [event.alarm for event in outcome.alarms] == ["kl"]
    assert outcome.alarms[0].since == onset and outcome.alarms[0].step == onset + 3
    healthy = made.state.last_healthy(outcome.alarms)
    last = max(0, onset - 2)
    assert healthy and healthy.name == f"adapter_{last - last % every}", names(made.state.folder.parent)
    assert read_manifest(healthy).step == last - last % every


def test_a_run_that_is_resumed_in_a_bad_state_still_knows_its_last_healthy_checkpoint(tmp_path: Path) -> None:
    """The first alarm is still critical when another stops the run: the checkpoint in between is no way back."""
    alarms = {"action": "stop", "kl": CRITICAL_AT_ONCE}
    config = config_of(tmp_path, steps=6, alarms=alarms)
    assert run(config).alarms
    made = start(config, resume=True)
    [at] = made.state.monitor.onsets(2)
    assert at == 2, "at step 1 the actor is the base"
    later = [Event("reward", "critical", 6, 6, {}, "")]
    healthy = made.state.last_healthy(later)
    assert healthy and healthy.name == "adapter_0"


# --- a resume from a named checkpoint


def test_continuing_from_a_checkpoint_is_exact(tmp_path: Path) -> None:
    """With nothing changed, the run that went back computes what it had computed."""
    config = config_of(tmp_path, steps=5, checkpoint={"keep": 9})
    run(config)
    folder = tmp_path / "checkpoints" / "r"
    before = [json.loads(line) for line in lines(tmp_path)]
    weights = (folder / "adapter_5" / "adapter_model.safetensors").read_bytes()
    made = start(config, resume=True, checkpoint="adapter_2")
    assert names(folder) == ["adapter_0", "adapter_1", "adapter_2"]
    assert (folder / "latest").resolve().name == "adapter_2"
    made.run(lambda *_: None)
    assert (folder / "adapter_5" / "adapter_model.safetensors").read_bytes() == weights
    after = [json.loads(line) for line in lines(tmp_path)]
    assert [{k: v for k, v in row.items() if not k.startswith("perf/")} for row in after] == [
        {k: v for k, v in row.items() if not k.startswith("perf/")} for row in before
    ]
    assert made.state.progress.rollbacks == 1 and made.state.progress.returns == 1


def test_a_crash_right_after_going_back_does_not_lead_to_the_old_run(tmp_path: Path) -> None:
    config = config_of(tmp_path, steps=5, checkpoint={"keep": 9})
    run(config)
    changed = config_of(tmp_path, steps=5, checkpoint={"keep": 9}, optim={"lr": 1e-3})
    made = start(changed, resume=True, checkpoint="adapter_2", accept_changes=True)
    made.run(lambda *_: None, lambda: True)
    again = start(changed, resume=True)  # no change has to be accepted: the checkpoint is of the new settings
    assert again.state.progress.step == 2 and again.state.progress.rollbacks == 1
    assert again.session.folders.checkpoints.joinpath("abandoned_adapter_5").is_dir()


def test_going_back_does_not_use_up_rollbacks(tmp_path: Path) -> None:
    alarms = {"action": "rollback", "rollback_limit": 1, "kl": {"enabled": False}, "ratio": {"enabled": False}}
    config = config_of(tmp_path, steps=5, checkpoint={"keep": 9}, alarms=alarms)
    run(config)
    made = start(config, resume=True, checkpoint="adapter_3")
    with made._open_tracker() as tracker:
        assert made.state.roll_back([Event("kl", "critical", 4, 4, {}, "")], tracker)
        assert not made.state.roll_back([Event("kl", "critical", 4, 4, {}, "")], tracker)
    assert (made.state.progress.rollbacks, made.state.progress.returns) == (2, 1)


def test_going_back_twice_and_further_keeps_all_alarms(tmp_path: Path) -> None:
    config = config_of(tmp_path, steps=5, checkpoint={"keep": 9})
    run(config)
    alarms = tmp_path / "runs" / "r" / "alarms.jsonl"
    for name in ("adapter_3", "adapter_1"):
        made = start(config, resume=True, checkpoint=name)
        count = made.state.progress.rollbacks
        with made._open_tracker() as tracker:
            tracker.alarms([Event("kl", "warn", 4, 4, {}, name)])
            made.state.save(tracker)
        made.session.lock.release()
        assert made.state.progress.returns == count
    made = start(config, resume=True)
    with made._open_tracker():
        rows = [json.loads(line) for line in alarms.read_text().splitlines() if '"diagnosis": "adapter' in line]
    # The first is from before the second return; the second is of a step that the run has not come to again.
    assert [(row["diagnosis"], row["rollbacks"]) for row in rows] == [("adapter_3", 1)]
    assert made.state.progress.rollbacks == 2


def test_the_newest_checkpoint_by_name_is_a_plain_resume(tmp_path: Path) -> None:
    config = config_of(tmp_path, steps=3)
    run(config)
    made = start(config_of(tmp_path, steps=4), resume=True, checkpoint="adapter_3")
    assert made.state.progress.step == 3 and made.state.progress.rollbacks == 0
    assert not list((tmp_path / "checkpoints" / "r").glob("abandoned_*"))


@pytest.mark.parametrize("name", ["adapter_99", "adapter_x", "../r/adapter_2", "nothing"])
def test_a_checkpoint_that_is_not_there_is_named_with_those_that_are(tmp_path: Path, name: str) -> None:
    config = config_of(tmp_path, steps=2, checkpoint={"keep": 9})
    run(config)
    with pytest.raises(UserError, match=r"run r has no such checkpoint; it has adapter_0, adapter_1, adapter_2"):
        start(config, resume=True, checkpoint=name)
    assert names(tmp_path / "checkpoints" / "r") == ["adapter_0", "adapter_1", "adapter_2"]


def test_a_damaged_checkpoint_is_refused_and_nothing_is_moved(tmp_path: Path) -> None:
    config = config_of(tmp_path, steps=3, checkpoint={"keep": 9})
    run(config)
    (tmp_path / "checkpoints" / "r" / "adapter_1" / "adapter_model.safetensors").write_bytes(b"x")
    with pytest.raises(UserError, match=r"adapter_1: adapter_model.safetensors is damaged"):
        start(config, resume=True, checkpoint="adapter_1")
    assert names(tmp_path / "checkpoints" / "r") == ["adapter_0", "adapter_1", "adapter_2", "adapter_3"]


def test_a_checkpoint_has_a_meaning_only_with_resume(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli("train", "--run", "a", "--checkpoint", "adapter_1") == 2
    assert "--checkpoint: has a meaning only with --resume" in capsys.readouterr().err
    assert not Path("runs").exists()
