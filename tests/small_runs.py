"""Short runs of the whole trainer, and faults to put them through. The runs are those of benchmarks/kill_resume.py."""

from __future__ import annotations

import copy
import errno
import functools
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from markov_cot.config.loading import build_config
from markov_cot.config.schema import Config, Model
from markov_cot.models import loading as models
from markov_cot.training import trainer
from markov_cot.training.setup import open_session
from markov_cot.training.trainer import Trainer, TrainResult

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


def script(name: str) -> ModuleType:
    """A script of the benchmarks' folder as a module."""
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", BENCHMARKS / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


kill_resume = script("kill_resume")
outcome = kill_resume.outcome
differences = kill_resume.differences


def config_of(folder: Path, algorithm: str = "group", /, **overrides: Any) -> Config:
    """The benchmark's config of an algorithm, with changes."""
    values = kill_resume.config_of(folder, algorithm).model_dump()
    for key, value in overrides.items():
        values[key] = values[key] | value if isinstance(value, dict) else value
    return build_config(values, "test")


def start(
    config: Config, *, resume: bool = False, accept_changes: bool = False, checkpoint: str | None = None
) -> Trainer:
    """A trainer of run "r"."""
    session = open_session(config, "r", "test", resume=resume, accept_changes=accept_changes, checkpoint=checkpoint)
    made = Trainer(session)
    if resume:
        made.state.resume()
    return made


def run(config: Config, *, resume: bool = False, stop: Callable[[Trainer], bool] = lambda _: False) -> TrainResult:
    """Trains until `stop`. Marks a finished run as the benchmark does."""
    made = start(config, resume=resume)
    ended = made.run(lambda *_: None, lambda: stop(made))
    if not ended.interrupted:
        (made.session.folders.run.parent.parent / "done").write_text(made.state.folder.name)
    return ended


@contextmanager
def warm() -> Iterator[None]:
    """Within it the bundled base is loaded once, and is not checked at each start."""
    tokenizer, load = models.load_tokenizer(Model()), functools.cache(models.load_base)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(models, "load_tokenizer", lambda _: tokenizer)
        patch.setattr(models, "load_base", lambda config, device: copy.deepcopy(load(config, device)))
        patch.setattr(trainer, "check_paths", lambda *_: None)
        yield


class Killed(BaseException):
    """Stands for SIGKILL: from here on the process does nothing."""


class Faults:
    """Makes the system's file calls fail, or end the process, at a call or from a call on.

    Real calls are counted while it is on; `full` lets through what a full disk lets through.
    """

    GROWING = ("open", "write", "mkdir", "symlink", "fsync")
    OTHERS = ("replace", "rename", "unlink", "rmdir")

    def __init__(self) -> None:
        self.calls: list[str] = []
        self._fail: Callable[[int, str], BaseException | None] = lambda *_: None

    @contextmanager
    def when(self, fail: Callable[[int, str], BaseException | None]) -> Iterator[None]:
        """Within it a call raises what `fail(its number from 0, its name)` returns, if anything."""
        self.calls, self._fail = [], fail
        with pytest.MonkeyPatch.context() as patch:
            for name in (*self.GROWING, *self.OTHERS):
                patch.setattr(os, name, self._wrapped(name, getattr(os, name)))
            yield

    def _wrapped(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            if name == "open" and not (args[1] & os.O_CREAT if len(args) > 1 else False):
                return call(*args, **kwargs)
            if name == "write" and args[0] <= 2:
                return call(*args, **kwargs)
            self.calls.append(name)
            if error := self._fail(len(self.calls) - 1, name):
                raise error
            # Waiting for the disk is the slow part of a save, and shows a test nothing.
            return None if name == "fsync" else call(*args, **kwargs)

        return wrapped


def no_space(*names: str) -> Callable[[int, str], BaseException | None]:
    """A disk that is full: whatever would need room fails."""
    return lambda _, name: (
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) if name in (names or Faults.GROWING) else None
    )


def fails_at(number: int, error: BaseException) -> Callable[[int, str], BaseException | None]:
    """Only one call fails."""
    return lambda n, _: error if n == number else None


def dies_at(number: int) -> Callable[[int, str], BaseException | None]:
    """The process ends at a call."""
    return lambda n, _: Killed() if n >= number else None


def lines(folder: Path) -> Sequence[str]:
    """Lines of run "r"'s log."""
    return (folder / "runs" / "r" / "log.jsonl").read_text().splitlines()
