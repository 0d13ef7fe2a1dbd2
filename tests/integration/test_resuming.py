"""A resumed run is the run: the same bytes in every mode, and a refusal where it could not be."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from markov_cot.checkpoints import run_dir
from markov_cot.checkpoints.checkpoint import FoundCheckpoint
from markov_cot.checkpoints.manifest import Manifest
from markov_cot.checkpoints.resume import note_commit
from markov_cot.checkpoints.run_lock import LOCK, RunLock
from markov_cot.models import loading as models
from markov_cot.tracking.run_log import NOTHING
from markov_cot.utils.errors import UserError
from tests.helpers import open_tracker
from tests.small_runs import BENCHMARKS, config_of, differences, lines, outcome, run, start, warm


@pytest.fixture(scope="module", autouse=True)
def _warm() -> Iterator[None]:
    with warm():
        yield


@pytest.mark.parametrize("algorithm", ["actor", "patience", "rollback"])
def test_stopped_and_resumed_runs_leave_the_same_bytes(tmp_path: Path, algorithm: str) -> None:
    """The other algorithms: tests/integration/test_algorithms.py, and benchmarks/kill_resume.py with all of them."""
    run(config_of(tmp_path / "whole", algorithm))
    expected = outcome(tmp_path / "whole")
    parts = tmp_path / "parts"
    stopped = iter([False] * 3 + [True] * 9)  # asked before each step; after the third it is not the step's number
    assert run(config_of(parts, algorithm), stop=lambda _: next(stopped)).interrupted
    run(config_of(parts, algorithm), resume=True)
    assert differences(parts, expected) == []
    if algorithm == "rollback":
        assert b'"rollbacks": 1' in expected["alarms"], "lines from before and after the first rollback"


def test_problems_that_are_too_long_are_counted_on_after_a_resume(tmp_path: Path) -> None:
    rows = [
        {"id": "same", "question": f"What is {i}+1?" + " and" * (2000 * (i % 2)), "answer": str(i)} for i in range(40)
    ]
    (tmp_path / "mine.jsonl").write_text("\n".join(map(json.dumps, rows)))
    data = {"dataset": str(tmp_path / "mine.jsonl")}
    run(config_of(tmp_path / "whole", data=data))
    expected = outcome(tmp_path / "whole")
    assert expected["log"][-1]["data/too_long"] > expected["log"][2]["data/too_long"]
    run(config_of(tmp_path / "parts", data=data), stop=lambda made: made.state.progress.step == 3)
    run(config_of(tmp_path / "parts", data=data), resume=True)
    assert differences(tmp_path / "parts", expected) == []


def test_the_baselines_of_problems_that_come_again_are_kept(tmp_path: Path) -> None:
    """Scored again, in a batch of other composition, they would differ by rounding."""
    config = config_of(tmp_path, "ema", steps=3)
    run(config, stop=lambda made: made.state.progress.step == 1)
    made = start(config, resume=True)
    [problem] = made.session.shuffle.batch(0, 1)
    [key] = made.method.collector.baseline.known
    made.method.collector.baseline.known[key] = 7.0
    assert made.method.collector.baseline([problem], 1000).tolist() == [7.0]


@pytest.mark.parametrize(
    "damage",
    ["torn line", "half more", "later lines", "zeros", "no logs", "torn events", "no latest", "bad links"],
)
def test_logs_and_links_that_a_crash_left_behind(tmp_path: Path, damage: str) -> None:
    config = config_of(tmp_path, steps=4)
    run(config, stop=lambda made: made.state.progress.step == 2)
    runs, folder = tmp_path / "runs" / "r", tmp_path / "checkpoints" / "r"
    log, events = runs / "log.jsonl", next(runs.glob("events*"))
    if damage == "torn line":
        log.write_bytes(log.read_bytes() + b'{"step": 3, "loss/to')
    elif damage == "half more":
        log.write_bytes(log.read_bytes() + b'{"step": 3}\n{"st')
    elif damage == "later lines":
        for name in ("log.jsonl", "samples.jsonl", "alarms.jsonl"):
            (runs / name).write_bytes((runs / name).read_bytes() + b'{"step": 3}\n{"step": 4}\n')
    elif damage == "zeros":
        log.write_bytes(log.read_bytes() + bytes(300) + b"\n" + bytes(10))
    elif damage == "no logs":
        (runs / "samples.jsonl").unlink()
        events.unlink()
    elif damage == "torn events":
        events.write_bytes(events.read_bytes() + events.read_bytes()[:30])
    elif damage == "no latest":
        (folder / "latest").unlink()
    else:
        for name in ("latest", "best"):
            (folder / name).unlink(missing_ok=True)
            (folder / name).symlink_to("/")
    run(config, resume=True)
    assert [json.loads(line)["step"] for line in lines(tmp_path)] == [0, 1, 2, 3, 4]
    assert (folder / "latest").resolve() == folder / "adapter_4"
    board = EventAccumulator(str(runs)).Reload()
    steps = [event.step for event in board.Scalars("loss/total")]
    assert steps == [1, 2, 3, 4]


def test_tensorboard_reads_every_step_once_even_when_the_clock_goes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = iter([3e9, 2e9, 1e9])
    for last in (NOTHING, 3, 5):
        now = next(times)
        with monkeypatch.context() as patch:
            patch.setattr("markov_cot.tracking.tensorboard.time.time", lambda now=now: now)
            with open_tracker(tmp_path, last) as tracker:
                for step in range(last + 1, last + 5):
                    tracker.scalars(step, {"loss/total": float(step)})
                    tracker.samples(step, [{"cot": "x"}])
    board = EventAccumulator(str(tmp_path)).Reload()
    assert sorted(event.step for event in board.Scalars("loss/total")) == list(range(10))
    assert sorted(event.step for event in board.Tensors("samples/text_summary")) == list(range(10))
    assert len(board.Tensors("custom_scalars__config__")) == 1


def test_a_finished_run_goes_on_with_more_steps(tmp_path: Path) -> None:
    run(config_of(tmp_path, steps=2))
    run(config_of(tmp_path, steps=4), resume=True)
    assert [json.loads(line)["step"] for line in lines(tmp_path)] == [0, 1, 2, 3, 4]
    board = EventAccumulator(str(tmp_path / "runs" / "r")).Reload()
    assert [event.step for event in board.Scalars("hparam/trained_accuracy")] == [4]


def test_changed_settings_are_named_and_refused_or_only_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run(config_of(tmp_path, steps=2))
    written = (tmp_path / "runs" / "r" / "config.yaml").read_text()
    changed = config_of(tmp_path, steps=3, optim={"lr": 0.5}, tracking={"samples_every": 7})
    with pytest.raises(UserError, match=r"optim\.lr \(0\.01 -> 0\.5\).*--accept-changes") as refusal:
        start(changed, resume=True)
    assert "tracking" not in str(refusal.value)
    assert (tmp_path / "runs" / "r" / "config.yaml").read_text() == written, "a refused run is left as it was"
    start(changed, resume=True, accept_changes=True).session.lock.release()
    assert "optim.lr (0.01 -> 0.5), steps (2 -> 3), tracking.samples_every (2 -> 7)" in caplog.text


def test_more_steps_change_a_schedule(tmp_path: Path) -> None:
    run(config_of(tmp_path, "schedule", steps=2))
    with pytest.raises(UserError, match=r"steps \(2 -> 3\)"):
        start(config_of(tmp_path, "schedule", steps=3), resume=True)


def test_changed_data_are_refused_unless_accepted(tmp_path: Path) -> None:
    rows = [{"question": f"What is {i}+1?", "answer": str(i + 1)} for i in range(40)]
    file = tmp_path / "mine.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    config = config_of(tmp_path, steps=2, data={"dataset": str(file)})
    run(config, stop=lambda made: made.state.progress.step == 1)
    file.write_text("\n".join(json.dumps(row | {"id": str(i)}) for i, row in enumerate(rows)))
    start(config, resume=True).session.lock.release()  # names of problems are not seen by the model
    rows[7]["answer"] = "9"
    file.write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(UserError, match=r"the problems of mine .* are not those that adapter_1 was trained on"):
        start(config, resume=True)
    start(config, resume=True, accept_changes=True)


def test_the_same_data_elsewhere_are_no_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [{"question": f"What is {i}+1?", "answer": i + 1} for i in range(40)]
    file = tmp_path / "mine.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    run(config_of(tmp_path, steps=1, data={"dataset": "mine.jsonl"}))
    (tmp_path / "link.jsonl").symlink_to("mine.jsonl")
    (tmp_path / "list.json").write_text(json.dumps(rows, indent=1))
    for other in ("./mine.jsonl", str(file), "link.jsonl", "list.json"):
        start(config_of(tmp_path, steps=1, data={"dataset": other}), resume=True).session.lock.release()
        assert f"data.dataset (mine.jsonl -> {other})" in caplog.text
    file.rename("moved.jsonl")
    start(config_of(tmp_path, steps=1, data={"dataset": "moved.jsonl"}), resume=True).session.lock.release()
    Path("other.json").write_text(json.dumps(rows[1:]))
    with pytest.raises(
        UserError, match=r"the problems of other \(other.json\) are not those that adapter_1 was trained on"
    ):
        start(config_of(tmp_path, steps=1, data={"dataset": "other.json"}), resume=True)
    with pytest.raises(UserError, match=r"differs from adapter_1 in data\.dataset \(mine\.jsonl -> words\)"):
        start(config_of(tmp_path, steps=1, data={"dataset": "words"}), resume=True)


def test_another_precision_is_refused_unless_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As when a run continues from a CPU to a GPU, where `model.dtype: auto` means something else."""
    run(config_of(tmp_path, steps=1))
    load_base = models.load_base
    monkeypatch.setattr(models, "load_base", lambda *args: load_base(*args).to(torch.bfloat16))
    config = config_of(tmp_path, steps=2)
    with pytest.raises(UserError, match=r"in float32, which is bfloat16 here; set model\.dtype=float32"):
        start(config, resume=True)
    made = start(config, resume=True, accept_changes=True)
    made.session.lock.release()
    assert made.session.changed and "the base's dtype (float32 -> bfloat16)" in caplog.text


def test_a_limit_on_tokens_that_was_changed_counts_and_one_that_was_found_is_kept(tmp_path: Path) -> None:
    made = start(config_of(tmp_path, steps=1))
    made.budgets.tokens["update"] = 100
    made.run(lambda *_: None)
    for limit, expected in ((None, 100), (3000, 3000)):
        changes = {} if limit is None else {"optim": {"micro_batch_tokens": limit}}
        resumed = start(config_of(tmp_path, steps=2, **changes), resume=True)
        resumed.session.lock.release()
        assert resumed.budgets.tokens["update"] == expected


def test_a_weight_that_was_adapted_gives_way_to_one_that_is_fixed(tmp_path: Path) -> None:
    run(config_of(tmp_path, steps=2, algorithm={"kl_target": 1e-9}))
    fixed = config_of(tmp_path, steps=3, algorithm={"kl_target": None, "kl_weight": 0.75})
    made = start(fixed, resume=True, accept_changes=True)
    made.run(lambda *_: None)
    assert json.loads(lines(tmp_path)[-1])["loss/kl_weight"] == 0.75


def test_the_summary_of_an_end_goes_when_the_run_goes_on(tmp_path: Path) -> None:
    run(config_of(tmp_path, steps=1))
    summary = tmp_path / "runs" / "r" / "summary.json"
    assert json.loads(summary.read_text())["step"] == 1
    run(config_of(tmp_path, steps=3), resume=True, stop=lambda made: made.state.progress.step == 2)
    assert not summary.exists()


def test_a_second_trainer_is_refused_and_a_dead_ones_lock_is_free(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from markov_cot.checkpoints.run_lock import RunLock\n"
        "RunLock(Path(sys.argv[1])).acquire(); print('held', flush=True); time.sleep(60)"
    )
    run(config_of(tmp_path, steps=1))
    folder = tmp_path / "runs" / "r"
    environment = os.environ | {"PYTHONPATH": str(BENCHMARKS.parent)}
    held = "lock = RunLock(Path(sys.argv[1])); lock.acquire()"
    code = code.replace("RunLock(Path(sys.argv[1])).acquire()", held)
    holder = subprocess.Popen([sys.executable, "-c", code, folder], stdout=subprocess.PIPE, env=environment)
    try:
        assert holder.stdout and holder.stdout.readline() == b"held\n"
        with pytest.raises(UserError, match="run r: another process trains it"):
            start(config_of(tmp_path, steps=2), resume=True)
    finally:
        holder.kill()
        holder.communicate()
    assert (folder / LOCK).exists()
    with RunLock(folder):
        pass
    run(config_of(tmp_path, steps=2), resume=True)


def test_a_file_system_without_locks_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def unsupported(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("markov_cot.checkpoints.run_lock.fcntl.flock", unsupported)
    with RunLock(tmp_path):
        assert "no lock on this file system" in caplog.text


def test_a_start_that_was_killed_before_its_config_can_be_repeated(tmp_path: Path, monkeypatch: Any) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(run_dir, "replace_file", killed)
        with pytest.raises(KeyboardInterrupt):
            start(config_of(tmp_path))
    assert (tmp_path / "runs" / "r").is_dir()
    start(config_of(tmp_path))


def test_checkpoints_of_a_run_whose_folder_is_gone_are_not_mixed_with_a_new_one(tmp_path: Path) -> None:
    run(config_of(tmp_path, steps=1))
    (tmp_path / "runs").rename(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="holds checkpoints already"):
        start(config_of(tmp_path))


def test_a_damaged_newest_checkpoint_is_named_and_the_one_before_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run(config_of(tmp_path / "whole", steps=4))
    expected = outcome(tmp_path / "whole")
    config = config_of(tmp_path / "parts", steps=4)
    run(config, stop=lambda made: made.state.progress.step == 3)
    folder = tmp_path / "parts" / "checkpoints" / "r"
    state = folder / "adapter_3" / "trainer" / "state.json"
    state.write_bytes(state.read_bytes().replace(b'"step": 3', b'"step": 2'))
    run(config, resume=True)
    assert "trainer/state.json is damaged" in caplog.text and "adapter_2 is used" in caplog.text
    assert (folder / "damaged_adapter_3").is_dir()
    assert differences(tmp_path / "parts", expected) == []


def test_killed_runs_resume_to_the_same_bytes(tmp_path: Path) -> None:
    command = [sys.executable, BENCHMARKS / "kill_resume.py", "--out", tmp_path, "--kills", "2"]
    command += ["--algorithms", "ppo"]
    environment = os.environ | {"PYTHONPATH": str(BENCHMARKS.parent)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=280)
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "results.json").read_text())
    assert [(r["kills"], r["identical"] == r["runs"]) for r in results.values()] == [(2, True)]


def test_another_commit_of_the_hubs_model_is_named(caplog: pytest.LogCaptureFixture) -> None:
    base = {"name": "org/tiny", "fingerprint": "f", "revision": "main", "commit": "aaa"}
    found = FoundCheckpoint(Path("adapter_4"), Manifest(4, {}, base, {}, {}, {}), [])
    note_commit(found, base)
    note_commit(found, {"name": "org/tiny", "fingerprint": "f"})
    assert caplog.records == []
    note_commit(found, base | {"commit": "bbb"})
    assert [record.getMessage() for record in caplog.records] == [
        "changed since adapter_4: the commit of org/tiny on the hub (aaa -> bbb); model.revision=aaa pins the former"
    ]
