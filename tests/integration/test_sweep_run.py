"""`markov-cot sweep run`: what is run, resumed, tried again and left alone, and how it is shown."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from markov_cot.config.loading import build_config, read_recipe
from markov_cot.training import sweep_cell, sweep_local, sweep_slurm
from markov_cot.training.sweep_cell import read_attempts, train_command
from markov_cot.training.sweep_plan import Sweep, plan_sweep, write_plan
from markov_cot.training.sweep_state import statuses
from tests.command_fixtures import Cli
from tests.launching import environment, process_children, wait_until

STUB = Path(__file__).parents[1] / "sweep_stub.py"
GRID = "recipe: quickstart\nsettings: {steps: 1}\ngrid: {optim.lr: [1e-4, 3e-4]}\nseeds: [0, 1]\n"
NAMES = ["001-lr0.0001-seed0", "002-lr0.0003-seed0", "003-lr0.0001-seed1", "004-lr0.0003-seed1"]
STEPS = 30
REAL = f"""
recipe: quickstart
settings:
  steps: {STEPS}
  data.terms: [2, 2]
  rollout: {{problems: 1, samples: 2, length: 8}}
  validation: {{every: 0, final_problems: 2, reader_check: 0}}
  tracking.trackers: []
  alarms.action: continue
seeds: [0]
slurm: {{timeout_min: 5}}
"""
Behave = Callable[..., None]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")


@pytest.fixture
def behave(monkeypatch: pytest.MonkeyPatch) -> Behave:
    """Cells are stubs, which are done unless their number is given another behaviour."""

    def set_up(others: Mapping[int, str] | None = None) -> None:
        def command(folder: Path, cell: str) -> list[str]:
            return [sys.executable, str(STUB), str(folder), cell, (others or {}).get(int(cell[:3]), "done")]

        monkeypatch.setattr(sweep_cell, "train_command", command)

    monkeypatch.setattr(sweep_local, "POLL_SECONDS", 0.01)
    set_up()
    return set_up


def write(text: str = GRID, name: str = "g.yaml") -> Path:
    path = Path(name)
    path.write_text(text)
    return path


def planned(text: str = GRID) -> Sweep:
    sweep = plan_sweep(write(text))
    write_plan(sweep)
    return sweep


def attempts(cell: str) -> list[int]:
    """Exit codes of a cell's attempts."""
    return [each.exit_code for each in read_attempts(Path("runs/g"), cell)]


def refused(result: tuple[int, str, str]) -> str:
    """The one line of an error with exit code 2."""
    code, out, err = result
    assert (code, out, err.count("\n")) == (2, "", 1) and "Traceback" not in err
    return err


def test_all_cells_are_run_once(cli: Cli, behave: Behave) -> None:
    write()
    code, out, err = cli("sweep", "run", "g.yaml")
    assert code == 0 and "g: 4 cells, 4 to run; runs/g" in err
    assert [attempts(name) for name in NAMES] == [[0]] * 4
    lines = [line.split() for line in out.splitlines()]
    assert lines[1] == ["cell", "optim.lr", "seed", "accuracy", "of", "base", "trained", "steps", "state", "seconds"]
    assert lines[3][:-1] == ["001", "0.0001", "0", "0.125", "0.250", "1/1", "done"]
    assert lines[6][:-1] == ["004", "0.0003", "1", "0.125", "0.750", "1/1", "done"]
    assert out.rstrip().endswith("sweep show runs/g")
    code, again, err = cli("sweep", "run", "g.yaml")
    assert (code, again) == (0, out) and "0 to run, 4 done" in err
    assert [attempts(name) for name in NAMES] == [[0]] * 4
    assert cli("sweep", "show", "runs/g", "--json")[0] == 0


def test_json_names_inputs_settings_n_and_seeds(cli: Cli, behave: Behave) -> None:
    write()
    found = json.loads(cli("sweep", "run", "g.yaml", "--json")[1])
    assert list(found["inputs"]) == ["g.yaml"] and len(found["inputs"]["g.yaml"]) == 64
    assert (found["sweep"], found["n"], found["seed"], found["settings"]["steps"]) == ("g", 4, [0, 1], 1)
    assert "optim.lr" not in found["settings"] and list(found["cells"]) == NAMES
    cell = found["cells"][NAMES[3]]
    assert (cell["settings"], cell["seed"], cell["state"]) == ({"optim.lr": 3e-4}, 1, "done")
    assert (cell["measure"], cell["base"], cell["trained"], cell["why"]) == ("accuracy", 0.125, 0.75, None)
    plan = json.loads(Path("runs/g/sweep.json").read_text())
    assert plan["inputs"] == found["inputs"] and plan["cells"][NAMES[3]] == {"optim.lr": 3e-4, "seed": 1}


def test_what_failed_and_what_an_alarm_stopped_are_kept_apart(cli: Cli, behave: Behave) -> None:
    write()
    behave({1: "fail", 2: "alarm", 3: "die"})
    code, out, _ = cli("sweep", "run", "g.yaml")
    assert code == 2 and "\x1b" not in out
    assert [attempts(name) for name in NAMES] == [[2], [3], [128 + signal.SIGKILL], [0]]
    states = [line.split()[-2] for line in out.splitlines() if line[:3] in ("001", "002", "003", "004")]
    assert states == ["failed", "stopped", "failed", "done"]
    assert f"{NAMES[1]}: kl; " in out and f"doctor runs/g/{NAMES[1]}" in out
    assert f"{NAMES[0]}: exit 2: no \\x1b[31mluck; try again (runs/g/cells/{NAMES[0]}.txt)" in out
    assert f"{NAMES[2]}: exit 137: killed by signal 9" in out
    assert "half of a line" in Path(f"runs/g/cells/{NAMES[0]}.txt").read_text()

    assert cli("sweep", "run", "g.yaml")[0] == 2
    assert [attempts(name) for name in NAMES] == [[2], [3], [137], [0]], "nothing is tried again unasked"
    behave()
    code, out, _ = cli("sweep", "run", "g.yaml", "--retry-failed")
    assert code == 3, "what an alarm stopped stays"
    assert [attempts(name) for name in NAMES] == [[2, 0], [3], [137, 0], [0]]


def interrupt_when(reached: Callable[[], bool], times: int = 1) -> threading.Thread:
    """Send this process what Ctrl-C sends."""

    def wait_and_send() -> None:
        wait_until(reached)
        for _ in range(times):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.3)

    thread = threading.Thread(target=wait_and_send)
    thread.start()
    return thread


def test_an_interrupt_lets_the_running_cell_save_and_the_next_call_continues(cli: Cli, behave: Behave) -> None:
    write()
    behave({2: "slow"})
    thread = interrupt_when(Path(f"runs/g/{NAMES[1]}/log.jsonl").exists)
    code, out, err = cli("sweep", "run", "g.yaml")
    thread.join()
    assert code == 130 and "interrupted, " in err
    assert [attempts(name) for name in NAMES] == [[0], [130], [], []]
    assert "interrupted" in out and out.count("waiting") == 2 and "to run the rest: " in out
    code, out, err = cli("sweep", "run", "g.yaml")
    assert code == 0 and "3 to run, 1 done" in err
    assert [attempts(name) for name in NAMES] == [[0], [130, 0], [0], [0]]


def test_a_second_interrupt_ends_at_once(cli: Cli, behave: Behave) -> None:
    write()
    behave({1: "stubborn"})
    thread = interrupt_when(Path(f"runs/g/{NAMES[0]}/log.jsonl").exists, times=2)
    code, _, err = cli("sweep", "run", "g.yaml")
    thread.join()
    assert code == 130 and "interrupted" in err
    assert [attempts(name) for name in NAMES] == [[130], [], [], []]


def test_several_at_a_time(cli: Cli, behave: Behave) -> None:
    write()
    behave({1: "pair", 2: "pair"})
    assert cli("sweep", "run", "g.yaml", "--jobs", "2")[0] == 0, "the first two wait for each other"
    assert [attempts(name) for name in NAMES] == [[0]] * 4


def test_a_dry_run_lists_the_cells_and_writes_nothing(cli: Cli, behave: Behave) -> None:
    write()
    code, out, err = cli("sweep", "run", "g.yaml", "--dry-run")
    assert (code, err) == (0, "") and out.count("waiting") == 4
    assert [path.name for path in Path().iterdir()] == ["g.yaml"]


def test_planning_needs_no_torch() -> None:
    write()
    code = (
        "import sys; from markov_cot.cli.main import main\n"
        "try: main(['sweep', 'run', 'g.yaml', '--dry-run'])\nfinally: print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment())
    assert not {"torch", "transformers", "submitit"} & set(done.stdout.splitlines()[-1].split())


def test_a_file_that_has_grown_adds_cells(cli: Cli, behave: Behave) -> None:
    write()
    behave({1: "fail"})
    cli("sweep", "run", "g.yaml")
    write(GRID.replace("[0, 1]", "[2, 0, 1]").replace("1e-4, 3e-4", "3e-4, 5e-4"))
    assert "has changed, and runs in runs/g do not fit it: 003-lr0.0001-seed1 (optim.lr was 0.0001" in refused(
        cli("sweep", "run", "g.yaml")
    )
    write(GRID.replace("[0, 1]", "[2, 0, 1]"))
    behave()
    code, _, err = cli("sweep", "run", "g.yaml")
    assert code == 2 and "g.yaml has changed: cells added 2, dropped 0" in err
    assert attempts("005-lr0.0001-seed2") == attempts("006-lr0.0003-seed2") == [0]
    assert attempts(NAMES[1]) == [0], "what was done is known again"


def test_cells_that_never_began_make_room(cli: Cli, behave: Behave) -> None:
    write(GRID.replace("quickstart", "gsm8k"))
    behave({1: "fail", 2: "fail", 3: "fail", 4: "fail"})
    assert cli("sweep", "run", "g.yaml")[0] == 2
    write()
    behave()
    code, _, err = cli("sweep", "run", "g.yaml")
    assert code == 0 and "cells added 4, dropped 4 (which had not begun)" in err
    assert [attempts(name) for name in NAMES] == [[0]] * 4, "old failures are not theirs"


def test_settings_of_runs_that_exist_cannot_change(cli: Cli, behave: Behave) -> None:
    write()
    cli("sweep", "run", "g.yaml")
    write(GRID.replace("steps: 1", "steps: 2"))
    message = refused(cli("sweep", "run", "g.yaml"))
    assert "001-lr0.0001-seed0 and 3 more (steps was 1 and is 2); put it back" in message
    write(GRID.replace("steps: 1", "steps: 2") + "name: other\n")
    assert cli("sweep", "run", "g.yaml")[0] == 0 and len(list(Path("runs/other").glob("0*"))) == 4


@pytest.mark.parametrize(
    ("text", "arguments", "reason"),
    [
        ("grid: {optim.lrr: [1, 2]}", (), "g.yaml: optim.lrr=1: quickstart: unknown key optim.lrr; did you mean"),
        ("grid: {optim.lr: [1, -1]}", (), "g.yaml: optim.lr=-1: quickstart: optim.lr: input should be greater than 0"),
        ("grid: {steps: [1]}\nrecipe: none", (), "recipe 'none': not known"),
        ("grid: {steps: [1]}\nsettings: {optim.x: 1}", (), "unknown key optim.x"),
        ("list: [{}, {optim.lr: 3e-4}]", (), "cells 1 and 2 have the same settings"),
        ("seeds: [1]\nname: a/b", (), "name 'a/b' is not a plain name"),
        ("grd: {}", (), "unknown key grd; did you mean grid?"),
        ("seeds: [1]", ("--launcher", "slurm"), "slurm.timeout_min, the minutes that a job may take, is missing"),
        ("seeds: [1]", ("--launcher", "slurm", "--jobs", "2"), "--jobs: is for the local launcher"),
        (
            "seeds: [1]\nslurm: {timeout_min: 1, nodes: 2}",
            ("--launcher", "slurm"),
            "slurm.nodes: a cell is one",
        ),
    ],
)
def test_bad_input_is_one_line_before_anything_runs(
    cli: Cli, behave: Behave, text: str, arguments: tuple[str, ...], reason: str
) -> None:
    write(text)
    assert reason in refused(cli("sweep", "run", "g.yaml", *arguments))
    assert [path.name for path in Path().iterdir()] == ["g.yaml"]


def test_folders_that_are_taken(cli: Cli, behave: Behave, monkeypatch: pytest.MonkeyPatch) -> None:
    write()
    Path("runs/g/r").mkdir(parents=True)
    Path("runs/g/r/config.yaml").write_text("")
    assert "holds runs that are no sweep's (r)" in refused(cli("sweep", "run", "g.yaml"))
    Path("runs/g/config.yaml").write_text("")
    assert "runs/g is a run" in refused(cli("sweep", "run", "g.yaml"))
    write(name="h.yaml")
    Path("runs/h").mkdir()
    for content in (
        "[1]",
        "{",
        '{"settings": {}, "cells": {"../../x": {}}}',
        '{"settings": {}, "cells": {"a": {"b": 1}}}',
    ):
        Path("runs/h/sweep.json").write_text(content)
        assert "runs/h/sweep.json: cannot be read" in refused(cli("sweep", "run", "h.yaml"))
    write(name="i.yaml")
    Path("runs/i").mkdir()
    with Path("runs/i/.lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "sweep i: another process runs it" in refused(cli("sweep", "run", "i.yaml"))
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "a", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    assert "call it without a launcher" in refused(cli("sweep", "run", "i.yaml"))


def test_a_cell_that_somebody_else_trains_is_left_alone(cli: Cli, behave: Behave) -> None:
    sweep = planned()
    run = sweep.folder / NAMES[0]
    run.mkdir()
    (run / "config.yaml").write_text("{}")
    with (run / ".lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        code, out, err = cli("sweep", "run", "g.yaml")
    assert code == 0 and f"another process trains {NAMES[0]}" in err and "training" in out
    assert attempts(NAMES[0]) == []


def test_a_cells_settings_are_those_of_its_run() -> None:
    """Trackers' arguments, own code and an adapter's shape come through, and a resumed run is given its code again."""
    own = "settings: {reward.function: mine:reward, tracking: {trackers: [wandb], args: {wandb: {group: g}}}}\n"
    sweep = planned(f"{own}list: [{{lora.init: some/adapter}}, {{prompt.system: 'one: two'}}]")
    path = sweep.folder / "cells" / f"{sweep.cells[0].name}.yaml"
    config = build_config(read_recipe(str(path)), "test")
    assert config == sweep.cells[0].config and "rank" not in config.lora.model_fields_set
    assert config.tracking.args == {"wandb": {"group": "g"}} and config.tracking.trackers == ("wandb",)
    assert config.checkpoint.runs_dir == "runs/g" and config.checkpoint.checkpoints_dir == "checkpoints/g"
    name = sweep.cells[0].name
    assert train_command(sweep.folder, name)[3:] == ["train", str(path), "--run", name]
    (sweep.folder / name).mkdir()
    (sweep.folder / name / "config.yaml").write_text("")
    assert train_command(sweep.folder, name)[3:] == [
        "train", "--run", name, "--resume", "--set=checkpoint.runs_dir=runs/g", "--set=reward.function=mine:reward",
    ]  # fmt: skip


def test_damaged_records_count_as_none() -> None:
    sweep = planned()
    run = sweep.folder / NAMES[0]
    run.mkdir()
    (run / "config.yaml").write_text("{}")
    (run / "summary.json").write_text("{")
    (sweep.folder / "cells" / f"{NAMES[0]}.json").write_text('[{"a": 1}]')
    found = statuses(sweep)[0]
    assert (found.state, found.trained, found.seconds) == ("done", None, 0)


def fake_slurm(folder: Path, state: str) -> None:
    """Commands that stand for Slurm's: sbatch keeps what it is given, sacct says that the jobs are in `state`."""
    folder.mkdir(exist_ok=True)
    for name, lines in {
        "srun": "exit 0",
        "sbatch": f'cp "$1" {folder}/array.sh; echo Submitted batch job 77',
        "sacct": f"printf 'JobID|State|NodeList\\n77_[0-3]|{state}|\\n'",
    }.items():
        (folder / name).write_text(f"#!/bin/sh\n{lines}\n")
        (folder / name).chmod(0o755)


def test_slurm_gets_one_array_of_the_cells(
    cli: Cli, behave: Behave, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("submitit")
    write(GRID + "slurm: {timeout_min: 30, slurm_partition: main, slurm_array_parallelism: 2}\n")
    assert "srun" in cli("sweep", "run", "g.yaml", "--launcher", "slurm")[2].splitlines()[-1]
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    fake_slurm(tmp_path / "bin", "PENDING")
    code, out, _ = cli("sweep", "run", "g.yaml", "--launcher", "slurm")
    assert code == 0 and out.count("queued") == 4 and "--launcher slurm --dry-run" in out
    array = (tmp_path / "bin" / "array.sh").read_text()
    assert "--array=0-3%2" in array and "--time=30" in array and "--partition=main" in array
    assert "--signal=USR2@" in array and "--job-name=g" in array
    assert json.loads(Path("runs/g/slurm/jobs.json").read_text()) == {name: f"77_{i}" for i, name in enumerate(NAMES)}
    code, out, err = cli("sweep", "run", "g.yaml", "--launcher", "slurm")
    assert code == 0 and "0 to run, 4 queued" in err and "jobs 77" in err and out.count("queued") == 4
    fake_slurm(tmp_path / "bin", "NODE_FAIL")
    write(GRID + "slurm: {timeout_min: 30, slurm_nonsense: 1}\n")
    code, out, err = cli("sweep", "run", "g.yaml", "--launcher", "slurm")
    assert code == 2 and "4 to run" in err and "nonsense" in err.splitlines()[-1]


def test_slurm_needs_submitit(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    write()
    monkeypatch.setitem(sys.modules, "submitit", None)
    assert "pip install 'markov-cot[slurm]'" in refused(cli("sweep", "run", "g.yaml", "--launcher", "slurm"))


def test_a_job_runs_its_cell_and_is_itself_when_queued_again(
    behave: Behave, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("submitit")
    monkeypatch.setattr(sweep_slurm, "PREEMPTION_SECONDS", 0)
    monkeypatch.setattr(sweep_slurm, "SAME_REQUEST_SECONDS", 0)
    behave({2: "fail", 3: "slow"})
    folder = str(planned().folder)
    assert [sweep_slurm.train_cell(folder, name) for name in NAMES[:2]] == [0, 2]
    assert sweep_slurm.train_cell(folder, NAMES[0]) == 0 and attempts(NAMES[0]) == [0], "done is done"
    again = []

    def preempt() -> None:
        wait_until(Path(folder, NAMES[2], "log.jsonl").exists)
        again.append(sweep_slurm.train_cell.checkpoint(folder, NAMES[2]))  # type: ignore[attr-defined]

    thread = threading.Thread(target=preempt)
    thread.start()
    assert sweep_slurm.train_cell(folder, NAMES[2]) == 130
    thread.join()
    assert (again[0].function, again[0].args) == (sweep_slurm.train_cell, (folder, NAMES[2]))
    assert again[0].result() == 0 and attempts(NAMES[2]) == [130, 0]


@pytest.mark.slow
def test_a_preempted_job_saves_and_resumes() -> None:
    """A real run, by submitit's local executor, which sends jobs and queues them again as its Slurm executor does."""
    pytest.importorskip("submitit")
    sweep = planned(REAL)
    name = sweep.cells[0].name
    job = sweep_slurm.submit(sweep, [name], cluster="local")[name]
    log, result = sweep.folder / name / "log.jsonl", sweep.folder / "slurm" / f"{job}_0_result.pkl"
    wait_until(lambda: log.exists() and b'"step": 2,' in log.read_bytes(), seconds=120)
    [task] = process_children(int(job))
    [train] = process_children(task)
    for process in (train, task):  # Slurm sends it to all processes of a job
        os.kill(process, signal.SIGUSR2)
    wait_until(result.exists, seconds=120)
    found = statuses(sweep)[0]
    assert (found.state, found.measure, found.step) == ("done", "accuracy", STEPS) and found.trained is not None
    assert attempts(name) == [130, 0] and "resuming at step" in found.output.read_text()
    assert [json.loads(line)["step"] for line in log.read_text().splitlines()] == list(range(1, STEPS + 1))
