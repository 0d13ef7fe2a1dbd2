"""The commands that are printed work where the first one was typed."""

from __future__ import annotations

import shlex
import sys

import pytest

from markov_cot.cli import again
from markov_cot.config.loading import build_config
from markov_cot.config.schema import Config

ELSEWHERE = {"checkpoint": {"runs_dir": "my runs", "checkpoints_dir": "kept"}}


@pytest.mark.parametrize(
    ("typed", "on_path", "expected"),
    [
        (["/usr/bin/markov-cot"], "/usr/bin/markov-cot", "markov-cot"),
        ([".venv/bin/markov-cot"], None, ".venv/bin/markov-cot"),
        (["my env/bin/markov-cot"], "/usr/bin/markov-cot", "'my env/bin/markov-cot'"),
        (["/lib/markov_cot/__main__.py"], None, "python3 -m markov_cot"),
        (["a script.py"], None, "markov-cot"),
    ],
)
def test_the_program_is_named_as_it_was_called(
    monkeypatch: pytest.MonkeyPatch, typed: list[str], on_path: str | None, expected: str
) -> None:
    monkeypatch.setattr(sys, "argv", typed)
    monkeypatch.setattr(sys, "orig_argv", ["python3", "-m", "markov_cot"])
    monkeypatch.setattr(again.shutil, "which", lambda _: on_path)
    assert again.train_again("r", Config()) == f"{expected} train --run r --resume"


def test_folders_that_are_not_the_usual_ones_are_named() -> None:
    config = build_config(ELSEWHERE, "test")
    words = shlex.split(again.look_at("eval", "two words", config))[1:]
    assert words[:3] == ["eval", "--run", "two words"]
    assert words[3:] == ["--set", "checkpoint.runs_dir=my runs", "--set", "checkpoint.checkpoints_dir=kept"]
    assert shlex.split(again.diagnose("r", config))[1:] == ["doctor", "my runs/r"]
    assert "--set" not in again.look_at("sample", "r", Config())


def test_values_are_written_as_yaml_reads_them() -> None:
    command = again.train_from("r", Config(), "adapter_2", {"optim.lr": 2e-5, "rollout.samples": 24})
    assert command.endswith("--checkpoint adapter_2 --accept-changes --set optim.lr=2e-05 --set rollout.samples=24")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (2e-5, "2e-05"),
        (0.00012345678, "0.00012345678"),
        ("two words", "two words"),
        ("two\nlines", '"two\\nlines"'),
        (["mine:copied"], "[mine:copied]"),
        (None, "null"),
        ([{"cot": "a", "answer": "b"}], "[{answer: b, cot: a}]"),
    ],
)
def test_a_value_as_a_word_of_a_command(value: object, text: str) -> None:
    assert again.assign({"some.key": value}) == ["--set", f"some.key={text}"]
