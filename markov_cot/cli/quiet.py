"""Keep libraries from writing between our own lines; what matters of their warnings comes back as an error."""

from __future__ import annotations

import logging
import os

from markov_cot.cli.launched import is_first
from markov_cot.utils.quiet import quiet_loggers, quiet_native_code, shows_everything

OURS = "markov_cot"
VERBOSITY = {
    "TRANSFORMERS_VERBOSITY": "error",
    "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
    "DATASETS_VERBOSITY": "error",
    "HF_HUB_VERBOSITY": "error",
}
"""Environment variables that libraries read once, as they are imported."""


class _OursAndErrors(logging.Logger):
    """Drop a record that is neither ours nor an error, whatever levels and handlers its library has set up."""

    def handle(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.ERROR or record.name.partition(".")[0] == OURS:
            super().handle(record)


def hide_library_warnings() -> None:
    """Show no warnings but our own, which are logged under `markov_cot`. To be called before libraries are imported.

    Python's warnings, log records below ERROR and what C++ and Rust write by themselves are left out. The interpreter's
    own switch shows them all: `PYTHONWARNINGS=default markov-cot ...`, or `python -W default -m markov_cot ...`.
    """
    if shows_everything():
        return
    quiet_native_code()
    for name, value in VERBOSITY.items():
        os.environ.setdefault(name, value)
    logging.setLoggerClass(_OursAndErrors)
    # Makes them records of the logger "py.warnings", so that no filter that a library installs brings them back.
    logging.captureWarnings(True)


def quiet_libraries() -> None:
    """Show no progress bars of loading, and no lines about each retry of a hub that cannot be reached.

    Of several processes, only the first warns: of what all of them see.
    """
    import transformers

    if not is_first():
        logging.getLogger(OURS).setLevel(logging.ERROR)
    transformers.logging.disable_progress_bar()
    if not shows_everything():
        quiet_loggers()
