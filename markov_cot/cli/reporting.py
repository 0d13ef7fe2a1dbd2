"""Where reports are written, and the one at the end of training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from markov_cot.analysis.report.document import report
from markov_cot.analysis.report.rendering import as_html, as_markdown
from markov_cot.analysis.report.sources import Source, open_source
from markov_cot.utils.errors import UserError
from markov_cot.utils.files import replace_file
from markov_cot.utils.text import first_line

NAME = "report.html"
FORMS: Mapping[str, Callable[[Mapping[str, Any]], str]] = {".html": as_html, ".htm": as_html, ".md": as_markdown}


def form_of(path: Path) -> Callable[[Mapping[str, Any]], str]:
    """Return how a file of this name is written. Raises `UserError` for a name that does not say."""
    if path.suffix.lower() not in FORMS:
        raise UserError(f"--out {path}: ends in neither .html nor .md; a report is one of these, or --json")
    return FORMS[path.suffix.lower()]


def default_path(sources: Sequence[Source]) -> Path:
    """Return where a report is written that nobody gave a place: with its run, else here."""
    run = sources[0].run if len(sources) == 1 else None
    return run.folder / NAME if run else Path(NAME)


def write(document: Mapping[str, Any], path: Path, form: Callable[[Mapping[str, Any]], str] | None = None) -> None:
    """Write a report, whole or not at all. Raises `UserError` where it cannot be written."""
    text = (form or form_of(path))(document)
    try:
        replace_file(path, text.encode(errors="backslashreplace"))
    except OSError as error:
        raise UserError(f"--out {path}: cannot be written ({error.strerror}); choose another place") from None


def report_on(folder: Path) -> str:
    """Write the report of a run that has just ended, and return the line that says so.

    Whatever is wrong with it, the run is trained and saved: what fails is said in that line.
    """
    try:
        source = open_source(str(folder), folder.parent)
        path = default_path([source])
        write(report([source]), path)
    except Exception as error:
        return f"report:      could not be made ({type(error).__name__}: {first_line(error)})"
    return f"report:      {path}"
