"""Command lines to type next, as they work where this one was typed."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markov_cot.config.loading import code_to_repeat
from markov_cot.config.prompt import is_template
from markov_cot.config.schema import Checkpoint, Config
from markov_cot.config.yaml_files import write_value

NAME, MODULE = "markov-cot", "markov_cot"


def train_again(run: str, config: Config, *more: str) -> str:
    """The command that resumes a run. The user's own code is named again, without which it would not be run."""
    settings = _folders(config, "runs_dir") | code_to_repeat(config)
    return _join("train", "--run", run, "--resume", *more, *assign(settings))


def train_from(run: str, config: Config, checkpoint: str, changes: Mapping[str, Any]) -> str:
    """The command that resumes a run from one of its checkpoints with settings that change what is computed."""
    return train_again(run, config, "--checkpoint", checkpoint, "--accept-changes", *assign(changes))


def look_at(command: str, run: str, config: Config) -> str:
    """The `eval` or `sample` command of a run."""
    return _join(command, "--run", run, *assign(_folders(config, "runs_dir", "checkpoints_dir")))


def sweep_again(file: Path, *more: str) -> str:
    """The `sweep run` command of a file."""
    return _join("sweep", "run", str(file), *more)


def show_sweep(folder: Path) -> str:
    """The `sweep show` command of a folder of runs."""
    return _join("sweep", "show", str(folder))


def diagnose(run: str, config: Config) -> str:
    """The `doctor` command of a run."""
    own = {"alarms.own": config.alarms.own} if config.alarms.own else {}
    return _join("doctor", str(Path(config.checkpoint.runs_dir, run)), *assign(own))


def train_on(config: Config, init: Path, changes: Mapping[str, Any]) -> str:
    """The command that trains on a run's dataset and model from an adapter."""
    names = ("--dataset", config.data.dataset, "--model", config.model.name)
    return _join("train", *names, "--init", str(init), *assign(changes))


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


def assign(settings: Mapping[str, Any]) -> list[str]:
    """The options that set these settings, as words of a command."""
    return [word for key, value in settings.items() for text in _assignments(key, value) for word in ("--set", text)]


def _assignments(key: str, value: Any) -> list[str]:
    if is_template(key) and isinstance(value, Mapping):  # a template is text as it stands, so one for each kind
        return [f"{key}=null", *(each for kind, text in value.items() for each in _assignments(f"{key}.{kind}", text))]
    return [f"{key}={_text(value)}"]


def _text(value: Any) -> str:
    """As short as it reads back to the same; text of one line stands as it is."""
    if isinstance(value, str) and len(value.splitlines()) <= 1 and value[:1] not in ('"', "'"):
        return value
    if isinstance(value, float):
        short = f"{value:g}"
        return short if float(short) == value else repr(value)
    if isinstance(value, list | tuple) and all(isinstance(each, str) for each in value):
        return f"[{','.join(map(_text, value))}]"
    return write_value(value)
