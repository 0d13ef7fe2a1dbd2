"""Bad days: a disk that is full or read-only, a process that dies, signals, NaN. docs/reliability.md has the table."""

from __future__ import annotations

import errno
import functools
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from markov_cot.algorithms.losses import LossTerms
from markov_cot.checkpoints import checkpoint as checkpoints
from markov_cot.checkpoints.manifest import read_manifest
from markov_cot.cli.signals import stop_on_signal
from markov_cot.tracking.multi import MultiTracker
from markov_cot.training.trainer import Trainer
from markov_cot.utils.errors import UserError
from markov_cot.utils.files import AppendFile, replace_file
from tests.small_runs import (
    FULL,
    Faults,
    Killed,
    config_of,
    dies_at,
    differences,
    fails_at,
    lines,
    no_space,
    outcome,
    run,
    start,
    warm,
)

STEPS = 4


@pytest.fixture(scope="module", autouse=True)
def _warm() -> Iterator[None]:
    with warm():
        yield


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a run leaves that nothing happened to."""
    folder = tmp_path_factory.mktemp("expected")
    run(config_of(folder, steps=STEPS))
    return outcome(folder)  # type: ignore[no-any-return]


@pytest.fixture
def stepped(tmp_path: Path) -> Iterator[tuple[Trainer, MultiTracker]]:
    """A trainer two steps in, with checkpoints of the start and of the first."""
    made = start(config_of(tmp_path, checkpoint={"keep": 3}))
    with made._open_tracker() as tracker:
        made._start(tracker)
        for _ in range(2):
            metrics, _ = made.step(tracker)
            tracker.scalars(made.state.progress.step, metrics)
            if made.state.progress.step == 1:
                made.state.save(tracker)
        yield made, tracker


def newest_step(made: Trainer) -> int:
    """Step of the newest checkpoint on disk, which must be whole and not ahead of the log."""
    found = checkpoints.find_newest(made.session.folders.checkpoints)
    assert found and not found.damaged
    logged = (made.session.folders.run / "log.jsonl").read_text()
    assert logged.count("\n") >= found.manifest.step + 1
    return found.manifest.step


def calls_of(work: Callable[[], None]) -> list[str]:
    faults = Faults()
    with faults.when(lambda *_: None):
        work()
    return faults.calls


@pytest.mark.parametrize("error", [FULL, OSError(errno.EROFS, os.strerror(errno.EROFS))], ids=["full", "read-only"])
def test_an_error_at_any_call_of_a_save_keeps_a_checkpoint_and_goes_on(
    stepped: tuple[Trainer, MultiTracker], error: OSError, caplog: pytest.LogCaptureFixture
) -> None:
    made, tracker = stepped
    number = len(calls_of(lambda: made.state.save(tracker)))
    assert number >= 20
    for n in range(number):
        shutil.rmtree(made.state.folder, ignore_errors=True)
        caplog.clear()
        with Faults().when(fails_at(n, error)):
            made.state.save(tracker)
        assert newest_step(made) in (1, 2), n
        if not made.state.folder.exists():
            assert [record.message.count("could not be saved") for record in caplog.records] == [1], n
    made.state.save(tracker)
    assert newest_step(made) == 2


def test_an_error_while_replacing_a_checkpoint_keeps_one_of_the_two(stepped: tuple[Trainer, MultiTracker]) -> None:
    made, tracker = stepped
    made.state.save(tracker)
    number = len(calls_of(lambda: made.state.save(tracker)))
    for n in range(number):
        with Faults().when(fails_at(n, FULL)):
            made.state.save(tracker)
        assert newest_step(made) == 2, n


def test_a_process_that_dies_at_any_call_of_a_save_leaves_a_whole_checkpoint(
    stepped: tuple[Trainer, MultiTracker],
) -> None:
    made, tracker = stepped
    for replaced in (False, True):
        number = len(calls_of(lambda: made.state.save(tracker)))
        for n in range(number):
            if not replaced:
                shutil.rmtree(made.state.folder)
            with Faults().when(dies_at(n)), pytest.raises(Killed):
                made.state.save(tracker)
            assert newest_step(made) == 2 if replaced else newest_step(made) in (1, 2), n
            left = [f.name for f in made.session.folders.checkpoints.iterdir() if f.name.startswith(".adapter")]
            assert left == [], "what the crash left was cleared up"
            made.state.save(tracker)


def test_a_process_that_dies_while_checkpoints_are_deleted(stepped: tuple[Trainer, MultiTracker]) -> None:
    made, tracker = stepped
    made.state.save(tracker)
    folder = made.session.folders.checkpoints
    number = len(calls_of(lambda: checkpoints.discard_after(folder, 1)))
    for n in range(number):
        made.state.save(tracker)
        with Faults().when(dies_at(n)), pytest.raises(Killed):
            checkpoints.discard_after(folder, 1)
        assert newest_step(made) in (1, 2), n
        for each in checkpoints.list_steps(folder):
            read_manifest(each)


@pytest.mark.parametrize("calls", [(), ("write",), ("fsync",)], ids=["all", "write", "fsync"])
def test_a_disk_that_is_full_for_a_while_loses_nothing(
    tmp_path: Path, expected: dict[str, Any], calls: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    made = start(config_of(tmp_path, steps=STEPS))
    full = no_space(*calls)
    with Faults().when(lambda n, name: full(n, name) if made.state.progress.step in (2, 3) else None):
        made.run(lambda *_: None)
    (tmp_path / "done").write_text(made.state.folder.name)
    assert differences(tmp_path, expected) == []
    assert sum("could not be saved" in record.message for record in caplog.records) == 2
    assert [f.name for f in checkpoints.list_steps(made.state.folder.parent)] == ["adapter_1", "adapter_4"]


def test_a_disk_that_stays_full_ends_with_one_line_and_resumes(tmp_path: Path, expected: dict[str, Any]) -> None:
    made = start(config_of(tmp_path, steps=STEPS))
    full = no_space()
    with (
        Faults().when(lambda n, name: full(n, name) if made.state.progress.step >= 2 else None),
        pytest.raises(UserError, match="step 4 is not saved; free space"),
    ):
        made.run(lambda *_: None)
    run(config_of(tmp_path, steps=STEPS), resume=True)
    assert differences(tmp_path, expected) == []


def test_a_disk_that_is_full_at_the_start_is_the_users_to_mend(tmp_path: Path) -> None:
    with Faults().when(no_space()), pytest.raises(UserError, match="No space left on device"):
        start(config_of(tmp_path))
    made = start(config_of(tmp_path))
    with Faults().when(no_space()), pytest.raises(UserError, match="No space left on device"):
        made.run(lambda *_: None)


def test_a_line_is_written_once_however_the_disk_takes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = AppendFile(tmp_path / "log")
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, bytes(data[:3])))  # a few bytes at a time
    file.append(b"first line\n")
    monkeypatch.setattr(os, "write", lambda *_: (_ for _ in ()).throw(FULL))
    file.append(b"second line\n")
    assert file.fault is FULL
    with pytest.raises(OSError, match="No space"):
        file.sync()
    monkeypatch.setattr(os, "write", write)
    file.append(b"third line\n")
    assert file.fault is None
    file.close()
    assert (tmp_path / "log").read_bytes() == b"first line\nsecond line\nthird line\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_the_systems_own_full_disk() -> None:
    file = AppendFile(Path("/dev/full"))
    file.append(b"line\n")
    assert file.fault and file.fault.errno == errno.ENOSPC
    file.close()


def test_what_is_closed_twice_is_closed_once(tmp_path: Path) -> None:
    file = AppendFile(tmp_path / "log")
    file.append(b"a")
    file.close()
    other = AppendFile(tmp_path / "other")  # which the system gives the same number
    file.close()
    other.append(b"b")
    other.sync()


def test_replacing_a_file_leaves_the_old_or_the_new(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(b"old")
    number = len(calls_of(lambda: replace_file(path, b"new")))
    for n in range(number):
        path.write_bytes(b"old")
        with Faults().when(fails_at(n, FULL)), pytest.raises(OSError, match="No space"):
            replace_file(path, b"new")
        assert path.read_bytes() in (b"old", b"new")
        with Faults().when(dies_at(n)), pytest.raises(Killed):
            replace_file(path, b"new")
        assert path.read_bytes() in (b"old", b"new")


def send(number: int = signal.SIGTERM) -> None:
    os.kill(os.getpid(), number)


PHASES = {
    "collecting": "method.collector.collect",
    "updating": "method.updater.update",
    "validating": "_validate",
    "saving": "state.save",
    "alarms": "state.monitor.update",
}


@pytest.mark.parametrize(("phase", "times"), [*((phase, 1) for phase in PHASES), ("updating", 2), ("saving", 2)])
def test_a_signal_in_each_phase_of_a_step(
    tmp_path: Path, expected: dict[str, Any], phase: str, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = start(config_of(tmp_path, steps=STEPS))
    *parts, method = PHASES[phase].split(".")
    owner = functools.reduce(getattr, parts, made)
    original = getattr(owner, method)
    sent = 0

    def interrupted(*args: Any, **kwargs: Any) -> Any:
        nonlocal sent
        if made.state.progress.step >= 2 and not sent:
            for _ in range(times):
                sent += 1
                send()
        return original(*args, **kwargs)

    monkeypatch.setattr(owner, method, interrupted)
    with stop_on_signal() as stop, stop.after_the_step():
        if times == 1:
            assert made.run(lambda *_: None, lambda: stop.asked).interrupted
            assert made.state.folder.exists() and 2 <= made.state.progress.step <= 3
        else:
            with pytest.raises(KeyboardInterrupt):
                made.run(lambda *_: None, lambda: stop.asked)
    assert sent == times
    run(config_of(tmp_path, steps=STEPS), resume=True)
    assert differences(tmp_path, expected) == []


def test_a_signal_before_the_loop_ends_at_once() -> None:
    with stop_on_signal(), pytest.raises(KeyboardInterrupt):
        send(signal.SIGINT)


def test_a_signal_during_the_final_scoring_puts_it_off(tmp_path: Path, expected: dict[str, Any]) -> None:
    made = start(config_of(tmp_path, steps=STEPS, validation={"every": 0}))
    score = made.score
    with stop_on_signal() as stop, stop.after_the_step():
        made.score = lambda *args: (send(), score(*args))[1]  # type: ignore[method-assign, assignment]
        assert made.run(lambda *_: None, lambda: stop.asked).interrupted
    assert not (made.session.folders.run / "summary.json").exists()
    assert not run(config_of(tmp_path, steps=STEPS, validation={"every": 0}), resume=True).interrupted
    assert (made.session.folders.run / "summary.json").exists()


@pytest.mark.parametrize("term", [field.name for field in fields(LossTerms)])
def test_nan_in_each_loss_term_skips_the_update_and_counts_it(
    tmp_path: Path, term: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    algorithm = {"actor_reward_weight": 1.0, "entropy_weight": 0.01}
    config = config_of(tmp_path, "actor", steps=3, algorithm=algorithm, alarms={"action": "continue"})
    made = start(config)
    total = LossTerms.total
    before: dict[str, torch.Tensor] = {}

    def poisoned(self: LossTerms, weights: Any) -> torch.Tensor:
        if made.state.progress.step != 1:
            return total(self, weights)
        before.update({n: p.detach().clone() for n, p in made.session.policy.trainable().items()})
        return total(replace(self, **{term: getattr(self, term) * float("nan")}), weights)

    monkeypatch.setattr(LossTerms, "total", poisoned)
    after: dict[str, torch.Tensor] = {}

    def watch(step: int, metrics: dict[str, float], _: object) -> None:
        assert metrics["optim/skipped"] == (step == 2)
        if step == 2:
            after.update({n: p.detach().clone() for n, p in made.session.policy.trainable().items()})

    made.run(watch)
    assert len(lines(tmp_path)) == 4
    assert before and all(torch.equal(after[name], before[name]) for name in before)
    assert all(torch.isfinite(p).all() for p in made.method.updater.parameters)
