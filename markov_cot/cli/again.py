"""Command lines to type next, as they work where this one was typed."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markov_cot.config.schema import Checkpoint, Config

NAME, MODULE = "markov-cot", "markov_cot"


def train_again(run: str, config: Config, *more: str) -> str:
    """The command that resumes a run."""
    return _join("train", "--run", run, "--resume", *more, *_assign(_folders(config, "runs_dir")))


def train_from(run: str, config: Config, checkpoint: str, changes: Mapping[str, Any]) -> str:
    """The command that resumes a run from one of its checkpoints with settings that change what is computed."""
    return train_again(run, config, "--checkpoint", checkpoint, "--accept-changes", *_assign(changes))


def look_at(command: str, run: str, config: Config) -> str:
    """The `eval` or `sample` command of a run."""
    return _join(command, "--run", run, *_assign(_folders(config, "runs_dir", "checkpoints_dir")))


def diagnose(run: str, config: Config) -> str:
    """The `doctor` command of a run."""
    return _join("doctor", str(Path(config.checkpoint.runs_dir, run)))


def beside_python(name: str) -> str:
    """How another installed command is called: by its name where the shell finds it, else by its path."""
    if shutil.which(name):
        return name
    path = Path(sys.executable).with_name(name)
    return shlex.quote(str(path)) if path.exists() else name


def _join(*words: str) -> str:
    return shlex.join([*_program(), *words])


def _program() -> Sequence[str]:
    """This program as it was called."""
    typed = Path(sys.argv[0])
    if typed.name == "__main__.py" and typed.parent.name == MODULE:
        return sys.orig_argv[0], "-m", MODULE
    if typed.name == NAME and shutil.which(NAME) != str(typed):
        return (str(typed),)
    return (NAME,)


def _folders(config: Config, *names: str) -> dict[str, str]:
    """The folders that are not where they are looked for."""
    given, usual = config.checkpoint, Checkpoint()
    return {f"checkpoint.{n}": getattr(given, n) for n in names if getattr(given, n) != getattr(usual, n)}


def _assign(settings: Mapping[str, Any]) -> list[str]:
    return [word for key, value in settings.items() for word in ("--set", f"{key}={_text(value)}")]


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
