"""Keeps libraries from writing between our own lines; what matters of their warnings comes back as an error."""

from __future__ import annotations

import logging

import datasets
import transformers

from markov_cot.cli.launched import is_first


def quiet_libraries() -> None:
    """No progress bars of loading, and no lines about each retry of a hub that cannot be reached.

    Of several processes, only the first warns: of what all of them see.
    """
    if not is_first():
        logging.getLogger("markov_cot").setLevel(logging.ERROR)
    transformers.logging.disable_progress_bar()
    transformers.logging.set_verbosity_error()
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    datasets.logging.set_verbosity_error()
