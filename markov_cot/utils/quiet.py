"""Keep libraries from writing between our own lines.

The command line does so for its whole process (`cli.quiet`); from Python it lasts as long as a call does, and the
program's own settings are as they were afterwards. The interpreter's own switch (`-W default`, PYTHONWARNINGS) shows
everything in both.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import warnings
from collections.abc import Iterator

NATIVE = {
    "TORCH_CPP_LOG_LEVEL": "ERROR",
    "TF_CPP_MIN_LOG_LEVEL": "2",
    "GRPC_VERBOSITY": "ERROR",
    # The tokenizers' Rust code warns, past Python, at a process that forks unless this is set; true is its default.
    "TOKENIZERS_PARALLELISM": "true",
}
"""Environment variables that what is not Python reads once, as it is imported."""
LIBRARIES = ("accelerate", "datasets", "huggingface_hub", "markov_cot", "peft", "tensorboard", "torch", "transformers")
"""Modules whose warnings are of no use to who calls us; ours are log records."""


def quiet_native_code() -> None:
    """Set the variables of `NATIVE` that are not set; to be called before the libraries are imported."""
    if not shows_everything():
        for name, value in NATIVE.items():
            os.environ.setdefault(name, value)


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Within it libraries show no bars of loading, no warnings and no log records below ERROR. Also a decorator."""
    import datasets
    import transformers

    bars = transformers.utils.logging.is_progress_bar_enabled()
    levels = transformers.logging.get_verbosity(), datasets.logging.get_verbosity()
    hub = logging.getLogger("huggingface_hub")
    hub_level = hub.level
    transformers.logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            if not shows_everything():
                warnings.filterwarnings("ignore", module=rf"({'|'.join(LIBRARIES)})(\.|$)")
                quiet_loggers()
            yield
    finally:
        if bars:
            transformers.logging.enable_progress_bar()
        transformers.logging.set_verbosity(levels[0])
        datasets.logging.set_verbosity(levels[1])
        hub.setLevel(hub_level)


def quiet_loggers() -> None:
    """Show no log records below ERROR of the libraries that log the most, retries of the hub among them."""
    import datasets
    import transformers

    transformers.logging.set_verbosity_error()
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    datasets.logging.set_verbosity_error()


def shows_everything() -> bool:
    """Return whether the user asked Python for warnings, by -W or PYTHONWARNINGS."""
    return bool(sys.warnoptions)
