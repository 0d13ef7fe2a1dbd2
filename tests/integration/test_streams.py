"""Terminals and locales that cannot show or send every character."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import pytest

from markov_cot.cli.streams import prepare_streams, typed
from markov_cot.config.schema import Data
from markov_cot.data.registry import load
from markov_cot.utils.errors import UserError
from tests.launching import environment

QUESTION = "Сколько 12+30?"
ESCAPED = QUESTION.encode("ascii", "backslashreplace").decode()
ASCII_LOCALE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


@pytest.mark.parametrize("variables", [{"PYTHONIOENCODING": "ascii"}, ASCII_LOCALE], ids=["stdout", "locale"])
def test_an_ascii_terminal_shows_escapes(tmp_path: Path, variables: dict[str, str]) -> None:
    command = [sys.executable, "-m", "markov_cot", "sample", QUESTION, "--checkpoint", "base", "--set=rollout.length=8"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, env=environment(**variables), timeout=200)
    assert done.returncode == 0, done.stderr
    assert ESCAPED.encode() in done.stdout and done.stdout.isascii() and b"Traceback" not in done.stderr


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_both_streams_are_prepared(monkeypatch: pytest.MonkeyPatch, stream: str) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, stream, io.TextIOWrapper(written, encoding="ascii", errors="strict"))
    prepare_streams()
    print("кот \udce9", file=getattr(sys, stream), flush=True)
    assert written.getvalue() == b"\\u043a\\u043e\\u0442 \\udce9\n"


def test_what_was_typed_is_read_as_utf_8(monkeypatch: pytest.MonkeyPatch) -> None:
    assert typed("Сколько?", "QUESTION") == "Сколько?"
    assert typed("Сколько?".encode().decode("ascii", "surrogateescape"), "QUESTION") == "Сколько?"
    with pytest.raises(UserError, match="QUESTION: is not UTF-8 text; use a UTF-8 terminal"):
        typed("caf\udce9", "QUESTION")
    monkeypatch.setattr(sys, "getfilesystemencoding", lambda: "iso8859-1")
    assert typed("café", "QUESTION") == "café"


def test_a_file_whose_name_is_not_utf_8_is_one_line() -> None:
    with pytest.raises(UserError, match=r"dataset caf\\udce9\.jsonl: its name is not UTF-8; rename the file"):
        load(Data(dataset="caf\udce9.jsonl"))
