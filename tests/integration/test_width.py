"""At 80 columns no line is cut and no table wraps, whatever the names and numbers are."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import MagicMock

import pytest
from rich.console import Console
from rich.table import Table

from markov_cot.cli.evaluating import progress
from markov_cot.cli.tables import fitting, print_table
from markov_cot.cli.training import _progress
from markov_cot.training.trainer import Trainer
from tests.command_fixtures import SMALL

WIDTH = 80
LONG = "a-run-whose-name-is-longer-than-anything-that-would-fit-beside-other-columns"
CUT = "…"


def printed(table: Table, width: int = WIDTH) -> list[str]:
    stream = io.StringIO()
    print_table(Console(file=stream, width=width, markup=False, highlight=False), table, "a title")
    return stream.getvalue().splitlines()


def two_columns(cell: str) -> Table:
    table = Table("metric", "value")
    table.add_row("accuracy", cell, style="bold")
    table.add_row("[nothing]", "")
    return table


def test_a_table_that_fits_is_a_table() -> None:
    lines = printed(two_columns("0.5"))
    assert lines[0] == "a title"
    assert "│ accuracy  │ 0.5   │" in lines


def test_a_table_that_does_not_fit_is_a_block_of_lines_a_row() -> None:
    assert printed(two_columns("long " * 20)) == [
        "a title",
        "accuracy",
        "  value: " + "long " * 20,
        "[nothing]",
    ]


def test_a_table_becomes_blocks_at_the_width_at_which_it_would_wrap() -> None:
    table = two_columns("x" * 20)
    natural = max(map(len, printed(table)))
    assert printed(table, natural)[1][0] == "┏"
    assert printed(table, natural - 1)[1] == "accuracy"


@pytest.mark.parametrize(
    ("room", "expected"),
    [(25, "reward 1.000"), (26, "reward 1.000  12,000 tok/s"), (11, "")],
)
def test_numbers_that_do_not_fit_are_left_out_whole(room: int, expected: str) -> None:
    assert fitting(["reward 1.000", "", "12,000 tok/s"], room) == expected


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a trained run of a long name on a dataset of a long name, and outputs to grade."""
    folder = tmp_path_factory.mktemp("width")
    rows = [{"question": f"What is {i}+1?", "answer": str(i + 1)} for i in range(40)]
    (folder / f"{LONG}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / f"{LONG}_rows.jsonl").write_text(json.dumps({"response": "#### 4", "gold": "4"}) + "\n")
    return folder


IN_TURN = """
import json, sys
from markov_cot.cli.main import main
for arguments in json.loads(sys.argv[1]):
    try:
        main(arguments)
    except SystemExit as ended:
        assert not ended.code, arguments
    print(flush=True)
    print("END OF A COMMAND", flush=True)
"""


def lines_of(folder: Path, commands: list[list[str]]) -> list[list[str]]:
    """What commands show on a terminal of 80 columns, as lines; a line that is redrawn counts each time.

    One process runs them in turn: starting takes longer than most of them do.
    """
    controller, terminal = pty.openpty()
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONWARNINGS", "MARKOV_COT_DATA")}
    environment |= {"COLUMNS": str(WIDTH), "TERM": "dumb", "HF_HUB_OFFLINE": "1", "NO_COLOR": "1"}
    environment["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-c", IN_TURN, json.dumps(commands)]
    process = subprocess.Popen(command, cwd=folder, env=environment, stdout=terminal, stderr=terminal)
    os.close(terminal)
    shown = b""
    while chunk := _read(controller):
        shown += chunk
    os.close(controller)
    assert process.wait() == 0, shown.decode()
    *found, rest = shown.decode().replace("\r", "\n").split("END OF A COMMAND\n")
    assert not rest.strip()
    return [each.splitlines() for each in found]


def _read(controller: int) -> bytes:
    try:
        return os.read(controller, 65536)
    except OSError:  # how Linux reports that the other side is closed
        return b""


@pytest.mark.slow
def test_no_command_cuts_a_line_or_wraps_a_cell(folder: Path) -> None:
    dataset = f"{LONG}.jsonl"
    train = ["train", "--dataset", dataset, "--model", "nano", "--run", LONG, *SMALL, "--set", "validation.every=1"]
    commands = [
        train,
        ["eval", "--run", LONG, "--limit", "2"],
        ["eval", "--run", LONG, "--limit", "2", "--all-checkpoints"],
        ["grade", f"{LONG}_rows.jsonl", "--kind", "numeric"],
        ["doctor", LONG],
        ["datasets"],
        ["runs"],
        ["recipes"],
        ["config"],
        ["sample", "--run", LONG, "--n", "1"],
    ]
    for arguments, lines in zip(commands, lines_of(folder, commands), strict=True):
        assert not [line for line in lines if CUT in line], arguments
        tables = [line for line in lines if line.startswith(("│", "┃", "┏", "└", "━"))]
        assert all(len(line) <= WIDTH for line in tables), arguments
        names = arguments[0] in ("datasets", "recipes", "config", "sample") or any(LONG in line for line in lines)
        assert names, f"{arguments}: the name is not in one piece"


@pytest.mark.parametrize(
    ("steps", "reward", "rate", "expected"),
    [
        (120, -0.778, 6857.0, "step 120/120 "),
        (120, -0.778, 6857.0, "reward -0.778  held-out 0.900  KL 0.012  6,857 tok/s"),
        (20_000, -123.456, 12_857.0, "step 20000/20000 "),
        (20_000, -123.456, 12_857.0, "reward -123.456  held-out 0.900  KL 0.012 "),
    ],
)
def test_the_progress_line_is_one_whole_line(
    tmp_path: Path, steps: int, reward: float, rate: float, expected: str
) -> None:
    stream = io.StringIO()
    console = Console(file=stream, width=WIDTH, force_terminal=True, no_color=True, markup=False, highlight=False)
    trainer = MagicMock(spec=Trainer)
    trainer.session = SimpleNamespace(
        config=SimpleNamespace(steps=steps), splits=SimpleNamespace(name="sums"), folders=SimpleNamespace(run=tmp_path)
    )
    trainer.state = SimpleNamespace(progress=SimpleNamespace(step=0, rollbacks=0, lr_scale=1.0))
    metrics = {
        "reward/answer_logprob": reward,
        "policy/kl": 0.012,
        "perf/rollout_tokens_per_second": rate,
        "eval/sums/accuracy": 0.9,
    }
    with _progress(console, trainer) as watch:
        watch(1, metrics, ())
        watch(steps, metrics, ())
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stream.getvalue())
    lines = [line for line in re.split(r"[\r\n]+", plain) if line.startswith("step ")]
    assert expected in lines[-1]
    assert all(len(line) <= WIDTH and CUT not in line for line in lines)


@pytest.mark.parametrize("name", ["sums, adapter_20", f"{LONG}, adapter_20000"])
def test_an_evaluations_progress_is_one_whole_line(name: str) -> None:
    stream = io.StringIO()
    with progress(Console(file=stream, width=WIDTH, no_color=True, markup=False, highlight=False)) as track:
        track(name, 100_000)(100_000)
    lines = stream.getvalue().splitlines()
    assert any(name in line for line in lines)
    assert "100000/100000" in lines[-1] and "left" in lines[-1]
    assert all(CUT not in line for line in lines)
    assert len(lines[-1].rstrip()) <= WIDTH
