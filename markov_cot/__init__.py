"""Reinforcement learning for Markovian chains of thought."""

from __future__ import annotations

import importlib
import importlib.metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from markov_cot.api import EvalResult, Run, TrainResult, UserError, evaluate, load_dataset, train

__all__ = ["EvalResult", "Run", "TrainResult", "UserError", "__version__", "evaluate", "load_dataset", "train"]

__version__: str


def __getattr__(name: str) -> Any:
    """Import what is asked for only then: the command line must start in a blink, and torch takes seconds."""
    if name == "__version__":
        try:
            return importlib.metadata.version("markov-cot")
        except importlib.metadata.PackageNotFoundError:  # a checkout that was never installed
            return "unknown"
    if name in __all__:
        importlib.import_module("markov_cot.utils.quiet").quiet_native_code()
        with importlib.import_module("markov_cot.utils.garbage").collecting_rarely():
            return getattr(importlib.import_module("markov_cot.api"), name)
    raise AttributeError(f"module 'markov_cot' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
