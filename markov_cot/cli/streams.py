"""What the terminal can and cannot show or send."""

from __future__ import annotations

import io
import sys

from markov_cot.utils.errors import UserError


def prepare_streams() -> None:
    """Show characters that the terminal's encoding lacks as escapes, instead of failing on them."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def typed(text: str, where: str) -> str:
    """Return an argument as the text that was typed.

    In a locale whose encoding cannot hold it, Python passes on its bytes, which are read as UTF-8 here. Raises
    `UserError` naming `where` when they are not.
    """
    try:
        return text.encode(sys.getfilesystemencoding(), "surrogateescape").decode("utf-8")
    except UnicodeDecodeError:
        if text.isprintable():  # in an encoding of its own, and readable in it
            return text
        raise UserError(f"{where}: is not UTF-8 text; use a UTF-8 terminal, or put it into a JSONL file") from None
    except UnicodeEncodeError:
        raise UserError(f"{where}: is not UTF-8 text; use a UTF-8 terminal, or put it into a JSONL file") from None
