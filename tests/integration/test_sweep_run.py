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
from collections.abc import Callable
from pathlib import Path

import pytest

from markov_cot.config.loading import build_config, read_recipe
from markov_cot.training import sweep_local
from markov_cot.training.sweep_cell import train_command
from markov_cot.training.sweep_state import statuses
from tests.command_fixtures import Cli
from tests.launching import environment, wait_until
from tests.sweep_fixtures import GRID, NAMES, Behave, attempts, planned, refused, write

pytestmark = pytest.mark.usefixtures("empty_folder")


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


def test_a_cell_that_obeys_no_signal_is_killed(cli: Cli, behave: Behave, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep_local, "PATIENCE_SECONDS", 0.3)
    write()
    behave({1: "deaf"})
    thread = interrupt_when(Path(f"runs/g/{NAMES[0]}/log.jsonl").exists, times=2)
    assert cli("sweep", "run", "g.yaml")[0] == 130
    thread.join()
    assert [attempts(name) for name in NAMES] == [[130], [], [], []], "interrupted by us, not failed"


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
    assert train_command(sweep.folder, name)[3:] == ["train", "--no-report", str(path), "--run", name]
    (sweep.folder / name).mkdir()
    (sweep.folder / name / "config.yaml").write_text("")
    assert train_command(sweep.folder, name)[3:] == [
        "train", "--no-report", "--run", name, "--resume",
        "--set=checkpoint.runs_dir=runs/g", "--set=reward.function=mine:reward",
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
