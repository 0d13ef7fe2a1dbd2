"""What reaches the terminal: our lines and our warnings, nobody else's, unless the user asks Python for them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from markov_cot.cli.main import COMMANDS as EVERY_COMMAND
from tests.command_fixtures import SMALL

LIBRARIES = ("transformers", "datasets", "huggingface_hub", "peft", "accelerate", "torch", "tokenizers", "anything")
NOISY = """
import logging, sys, warnings
import click
from markov_cot.cli.main import main

def noise(when):
    for category in (FutureWarning, DeprecationWarning, UserWarning, RuntimeWarning):
        for depth in (1, 2, 3):
            warnings.warn(f"noise: {category.__name__} {when}", category, stacklevel=depth)
    for library in LIBRARIES:
        logging.getLogger(f"{library}.module").warning("noise: %s logs %s", library, when)
    logging.getLogger("markov_cot.module").warning("ours, %s", when)
    logging.getLogger("datasets.module").error("an error, %s", when)

invoke = click.Command.invoke
def noisy_invoke(self, ctx):
    noise(f"before {ctx.info_name}")
    try:
        return invoke(self, ctx)
    finally:
        warnings.simplefilter("always")  # as a library may do as it is imported
        noise(f"after {ctx.info_name}")
click.Command.invoke = noisy_invoke

for arguments in COMMANDS:
    try:
        main(arguments)
    except SystemExit as stopped:
        print(f"exit {stopped.code}", file=sys.stderr)
"""
COMMANDS = [
    ["train", "--run", "r", *SMALL, "--set", "model.dtype=bfloat16"],
    [
        *(
            "sft",
            "arithmetic",
            "--model",
            "nano",
            "--run",
            "s",
            "--steps",
            "1",
            "--set=sft.limit=2",
            "--set=sft.batch=2",
        ),
        *("--set=data.terms=[2,2]", "--set=validation.problems=2", "--set=validation.final_problems=2"),
    ],
    ["sample", "--run", "r", "--n", "1"],
    ["eval", "--run", "r", "--limit", "2", "--set", "model.dtype=bfloat16"],
    ["probe", "--run", "r", "--n", "2", "--test", "delete"],
    ["transfer", "r", "--n", "2", "--reader", "nano"],
    ["export", "--run", "r", "--merge", "out"],
    ["grade", "rows.jsonl", "--kind", "numeric"],
    ["forgetting", "scores.csv", "scores.csv"],
    ["winrate", "votes.csv"],
    ["teachers", "teacher.jsonl", "--student", "nano", "--set", "model.dtype=bfloat16"],
    ["doctor", "r"],
    ["compare", "r", "s"],
    ["report", "r"],
    ["sweep", "show", "sweep.csv"],
    ["sweep", "run", "grid.yaml", "--dry-run"],
    ["datasets"],
    ["runs"],
    ["recipes"],
    ["config"],
]


def run_noisily(folder: Path, commands: list[list[str]], *options: str) -> str:
    """Run commands in one new process, with warnings forced before and after each; returns its stderr."""
    (folder / "rows.jsonl").write_text(json.dumps({"response": "#### 4", "gold": "4"}) + "\n")
    (folder / "teacher.jsonl").write_text(json.dumps({"question": "?", "response": "4", "reward": 1}) + "\n")
    (folder / "votes.csv").write_text("question,model_a,model_b,winner\n1,a,b,model_a\n2,a,b,tie\n")
    (folder / "scores.csv").write_text("task,metric,score,stderr\nt,acc,0.5,0.1\n")
    (folder / "sweep.csv").write_text("lr,score\n1,2\n1,4\n3,7\n")
    (folder / "grid.yaml").write_text("grid: {optim.lr: [1e-4, 3e-4]}\n")
    script = NOISY.replace("LIBRARIES", repr(LIBRARIES)).replace("COMMANDS", repr(commands))
    packages = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONWARNINGS", "MARKOV_COT_DATA", "COLUMNS")}
    for name in ("TRANSFORMERS_VERBOSITY", "DATASETS_VERBOSITY", "HF_HUB_VERBOSITY", "TORCH_CPP_LOG_LEVEL"):
        environment.pop(name, None)  # an earlier test in this process may have set them
    done = subprocess.run(
        [sys.executable, *options, "-c", script],
        cwd=folder,
        env=environment | {"PYTHONPATH": packages, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


@pytest.mark.slow
def test_no_command_shows_a_librarys_warning_and_every_one_shows_ours(tmp_path: Path) -> None:
    assert {command for command, *_ in COMMANDS} == set(EVERY_COMMAND)
    shown = run_noisily(tmp_path, COMMANDS)
    assert shown.count("exit 0") == len(COMMANDS)
    assert "noise" not in shown
    assert "Warning" not in shown
    for command, *_ in COMMANDS:
        for when in ("before", "after"):
            assert f"ours, {when} {command}\n" in shown
            assert f"an error, {when} {command}\n" in shown


def test_the_interpreters_own_switch_shows_them(tmp_path: Path) -> None:
    shown = run_noisily(tmp_path, [["grade", "rows.jsonl", "--kind", "numeric"]], "-W", "default")
    assert "exit 0" in shown
    for category in ("FutureWarning", "DeprecationWarning", "UserWarning", "RuntimeWarning"):
        assert f"noise: {category} before grade" in shown
    for library in LIBRARIES:
        assert f"noise: {library} logs before grade" in shown


def test_what_writes_past_python_is_quieted_before_it_is_imported(tmp_path: Path) -> None:
    script = (
        "import os, sys\nfrom markov_cot.cli.main import main\ntry: main(['--help'])\nexcept SystemExit: pass\n"
        "print('torch' in sys.modules, os.environ['TORCH_CPP_LOG_LEVEL'], os.environ['TRANSFORMERS_VERBOSITY'])"
    )
    environment = os.environ | {"TRANSFORMERS_VERBOSITY": "info"}
    for name in ("TORCH_CPP_LOG_LEVEL", "PYTHONWARNINGS"):
        environment.pop(name, None)
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False ERROR info", "what the user set is kept"
