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
_DATASETS_LEVEL = "DATASETS_VERBOSITY"
"""Read once, as `datasets` is imported."""
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
    import transformers

    bars = transformers.utils.logging.is_progress_bar_enabled()
    level = transformers.logging.get_verbosity()
    hub = logging.getLogger("huggingface_hub")
    hub_level = hub.level
    transformers.logging.disable_progress_bar()
    try:
        with warnings.catch_warnings(), _datasets_as_it_was():
            if not shows_everything():
                warnings.filterwarnings("ignore", module=rf"({'|'.join(LIBRARIES)})(\.|$)")
                quiet_loggers()
            yield
    finally:
        if bars:
            transformers.logging.enable_progress_bar()
        transformers.logging.set_verbosity(level)
        hub.setLevel(hub_level)


def quiet_loggers() -> None:
    """Show no log records below ERROR of the libraries that log the most, retries of the hub among them.

    `datasets` is not imported for it, which takes half a second: its level is set when it is.
    """
    import transformers

    transformers.logging.set_verbosity_error()
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    os.environ[_DATASETS_LEVEL] = "error"
    if datasets := sys.modules.get("datasets"):
        datasets.logging.set_verbosity_error()


@contextlib.contextmanager
def _datasets_as_it_was() -> Iterator[None]:
    """Afterwards `datasets` logs what it did before, or would have done, had it been imported before."""
    named, loaded = os.environ.get(_DATASETS_LEVEL), sys.modules.get("datasets")
    level = (
        loaded.logging.get_verbosity() if loaded else getattr(logging, (named or "warning").upper(), logging.WARNING)
    )
    try:
        yield
    finally:
        os.environ.pop(_DATASETS_LEVEL, None)
        if named is not None:
            os.environ[_DATASETS_LEVEL] = named
        if datasets := sys.modules.get("datasets"):
            datasets.logging.set_verbosity(level)


def shows_everything() -> bool:
    """Return whether the user asked Python for warnings, by -W or PYTHONWARNINGS."""
    return bool(sys.warnoptions)
