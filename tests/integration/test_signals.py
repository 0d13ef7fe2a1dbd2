"""Which signals ask for an end, and that they are heard while processes wait for each other; docs/reliability.md."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from markov_cot.cli import signals
from markov_cot.cli.signals import Stop, stop_on_signal
from markov_cot.distributed.process_group import Patience, _finish
from tests.launching import ROOT, environment, free_port
from tests.waiting_cases import SECONDS

ASKING = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU]
TRAIN = [sys.executable, "-m", "markov_cot", "train", "--run", "r", "--steps", "100000"]
SMALL = ["rollout.length=8", "rollout.samples=2", "data.terms=[2,2]", "validation.every=0", "checkpoint.every=100000",
         "validation.final_problems=2", "model.device=cpu"]  # fmt: skip


@pytest.mark.parametrize("number", ASKING)
def test_each_lets_the_step_finish_and_a_second_stops_at_once(number: signal.Signals) -> None:
    with stop_on_signal() as stop:
        with stop.after_the_step():
            os.kill(os.getpid(), number)
            assert stop.asked
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(SystemExit, match="130"), pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "_exit", sys.exit)
            os.kill(os.getpid(), number if number != signal.SIGHUP else signal.SIGINT)


def test_before_the_step_they_stop_at_once() -> None:
    for number in ASKING:
        with stop_on_signal(), pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)


def test_what_was_there_before_comes_back() -> None:
    before = [signal.getsignal(number) for number in ASKING]
    with stop_on_signal():
        assert all(signal.getsignal(number) not in (signal.SIG_DFL, signal.SIG_IGN) for number in ASKING)
    assert [signal.getsignal(number) for number in ASKING] == before


def test_a_hangup_that_is_ignored_stays_ignored() -> None:
    """As under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_on_signal() as stop, stop.after_the_step():
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stop.asked
            os.kill(os.getpid(), signal.SIGUSR1)
            assert stop.asked
    finally:
        signal.signal(signal.SIGHUP, before)


def test_one_request_that_comes_twice_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """The shell's hangup and the system's; Ctrl-C from the terminal and from the launcher."""
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    stop = Stop()
    with stop.after_the_step():
        stop.take(signal.SIGHUP, None)
        stop.take(signal.SIGHUP, None)
        with pytest.raises(KeyboardInterrupt):
            stop.take(signal.SIGINT, None)
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "a", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    stop = Stop()
    with stop.after_the_step():
        stop.take(signal.SIGINT, None)
        stop.take(signal.SIGINT, None)
        now += signals._SAME_REQUEST_SECONDS
        with pytest.raises(KeyboardInterrupt):
            stop.take(signal.SIGINT, None)


def test_an_exchange_has_its_time_from_the_request_on(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    patience = Patience()
    now = 1000.0
    patience.check(started=0.0)
    patience.limit(30.0)
    now = 1029.0
    patience.check(started=0.0)
    now = 1031.0
    patience.check(started=1002.0)
    with pytest.raises(KeyboardInterrupt):
        patience.check(started=0.0)
    patience.lift()
    patience.check(started=0.0)


def test_a_finished_exchange_is_not_waited_for() -> None:
    class Work:
        waited = 0

        def is_completed(self) -> bool:
            return True

        def wait(self) -> None:
            self.waited += 1

    work = Work()
    _finish(work)
    assert work.waited == 1


@contextmanager
def waiting(where: str, rank: int, port: str) -> Iterator[subprocess.Popen[str]]:
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.waiting_cases", where],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(
            RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", LOCAL_WORLD_SIZE="2",
            MASTER_ADDR="127.0.0.1", MASTER_PORT=port,
        ),
    )  # fmt: skip
    try:
        yield child
    finally:
        child.kill()
        child.communicate()


def read_until(child: subprocess.Popen[str], line: str) -> None:
    assert child.stdout
    for found in child.stdout:
        if found.strip() == line:
            return
    raise AssertionError(f"no {line!r}: {child.stderr.read() if child.stderr else ''}")


def test_a_process_that_waits_to_meet_the_others_ends_at_once() -> None:
    with waiting("meeting", 0, free_port()) as child:
        read_until(child, "starting")
        time.sleep(1)
        child.send_signal(signal.SIGTERM)
        _, err = child.communicate(timeout=30)
    assert (child.returncode, err) == (130, "markov-cot: interrupted\n")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_process_that_waits_in_an_exchange_hears_and_ends(number: signal.Signals) -> None:
    """SIGTERM alone gives the other its time; after any other a second one ends the wait."""
    port = free_port()
    with waiting("exchange", 0, port) as child, waiting("exchange", 1, port) as other:
        read_until(other, "silent")
        read_until(child, "waiting")
        time.sleep(0.5)
        child.send_signal(number)
        if number == signal.SIGINT:
            time.sleep(signals._SAME_REQUEST_SECONDS + 0.5)
            assert child.poll() is None, "one SIGINT waits for the step"
            child.send_signal(number)
        _, err = child.communicate(timeout=SECONDS + 30)
        assert other.poll() is None
    assert child.returncode == 130
    assert err == "\nstopping after this step (once more to stop at once)\nmarkov-cot: interrupted\n"


def test_a_closed_terminal_saves_the_step(tmp_path: Path) -> None:
    pid, terminal = pty.fork()
    if not pid:  # the shell's place: what it starts shares its terminal
        os.chdir(tmp_path)
        os.environ.update(environment())
        os.execv(sys.executable, [*TRAIN, *(f"--set={setting}" for setting in SMALL)])
    log = tmp_path / "runs" / "r" / "log.jsonl"
    end = time.monotonic() + 120
    shown = b""
    os.set_blocking(terminal, False)
    while not (log.exists() and log.read_text().count("\n") >= 2):
        with suppress(BlockingIOError):
            shown += os.read(terminal, 65536)
        assert time.monotonic() < end, shown
        time.sleep(0.05)
    os.close(terminal)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 130
    last = json.loads(log.read_text().splitlines()[-1])["step"]
    assert {f.name for f in (tmp_path / "checkpoints" / "r").glob("adapter_*")} == {"adapter_0", f"adapter_{last}"}


def test_what_slurm_sends_before_the_end_saves_the_step(tmp_path: Path) -> None:
    settings = [f"--set={setting}" for setting in SMALL]
    child = subprocess.Popen([*TRAIN, *settings], cwd=tmp_path, stderr=subprocess.PIPE, text=True, env=environment())
    log = tmp_path / "runs" / "r" / "log.jsonl"
    try:
        end = time.monotonic() + 120
        while not (log.exists() and log.read_text().count("\n") >= 2):
            assert time.monotonic() < end and child.poll() is None
            time.sleep(0.05)
        child.send_signal(signal.SIGUSR1)
        _, err = child.communicate(timeout=60)
    finally:
        child.kill()
    last = json.loads(log.read_text().splitlines()[-1])["step"]
    assert child.returncode == 130, err
    assert "interrupted; saved" in err and "--resume" in err
    assert {f.name for f in (tmp_path / "checkpoints" / "r").glob("adapter_*")} == {"adapter_0", f"adapter_{last}"}
