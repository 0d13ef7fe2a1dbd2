"""A report's document as a page of HTML, or as Markdown for a pull request.

All text of models and files is escaped, and what a terminal or a browser would obey rather than show is written out.
The page loads nothing, and runs the one script that its policy names by its hash.
"""

from __future__ import annotations

import base64
import hashlib
import html
import itertools
import json
import re
from collections.abc import Callable, Mapping
from functools import partial
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from markov_cot.analysis.occlusion import Occlusion
from markov_cot.analysis.report.figures import draw
from markov_cot.analysis.report.view import FORMS, MISSING, Value, is_number
from markov_cot.utils.text import visible

TEMPLATES = "templates"
PACKAGE = "markov_cot.analysis.report"
TEXT = "text"


def as_html(document: Mapping[str, Any]) -> str:
    """Return a page of its own, to be opened from a file."""
    script = _template_file("browser.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    environment = _environment({name: partial(_element, name) for name in FORMS})
    environment.filters |= {"quoted": _quoted, "code": _code, "name": _name, "tokens": _tokens, "grouped": _grouped}
    return environment.get_template("report.html.j2").render(
        document=Value(document),
        title=_title(document),
        style=Markup(_template_file("report.css")),
        script=Markup(script),
        policy=f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'sha256-{digest}'",
        draw=_drawn,
    )


def as_markdown(document: Mapping[str, Any]) -> str:
    """Return what a pull request shows: the same findings, without figures and without the browser of CoTs."""
    environment = _environment({name: partial(_markdown, name) for name in FORMS})
    environment.filters |= {"fenced": _fenced, "code": _span, "name": lambda value: _literal(visible(value.key))}
    return environment.get_template("report.md.j2").render(document=Value(document))


def as_json(document: Mapping[str, Any]) -> str:
    """Return the document itself."""
    # Half of a surrogate pair, which broken text may hold, has no UTF-8; and a terminal shows escapes, and obeys none.
    return json.dumps(document, indent=1, allow_nan=False) + "\n"


def _environment(filters: Mapping[str, Callable[..., Any]]) -> Environment:
    environment = Environment(
        loader=PackageLoader(PACKAGE, TEMPLATES),
        autoescape=select_autoescape(["html.j2"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= filters
    environment.globals["missing"] = MISSING
    return environment


def _template_file(name: str) -> str:
    return files(PACKAGE).joinpath(TEMPLATES, name).read_text(encoding="utf-8")


def _title(document: Mapping[str, Any]) -> str:
    return "markov-cot: " + visible(", ".join(run["name"] for run in document["runs"]))


# --- HTML


def _element(form: str, value: Value, tag: str = "span") -> Markup:
    """A value with its place in the document and the form that it is shown in."""
    return Markup('<{tag} data-at="{place}" data-as="{form}">{shown}</{tag}>').format(
        tag=Markup(tag), place=value.place, form=form, shown=FORMS[form](value.raw)
    )


def _quoted(value: Value) -> Markup:
    """A text of a model, as it stands. A browser drops the first line break of a `<pre>`, so there is one to drop."""
    return Markup('<pre data-at="{}" data-as="{}">\n{}</pre>').format(value.place, TEXT, FORMS[TEXT](value.raw))


def _code(value: Value) -> Markup:
    """A command, a setting or a name."""
    return _element(TEXT, value, "code")


def _name(value: Value) -> Markup:
    """The key of a value."""
    return Markup('<span data-at="{}" data-as="key">{}</span>').format(value.place, visible(value.key))


def _grouped(cots: Value) -> list[list[Value]]:
    """CoTs by what they are of, and their step, in order."""
    return [list(of) for _, of in itertools.groupby(cots, lambda each: (each["kind"].raw, each["step"].raw))]


def _tokens(example: Value) -> Markup:
    """A CoT whose tokens are coloured by what the answer loses without them."""
    raw = example.raw
    coloured = Occlusion(raw["item"], raw["question"], raw["answer"], tuple(raw["tokens"]), tuple(raw["effects"]))
    return Markup(coloured.as_html())


def _drawn(curve: Value, alarms: Value | None = None) -> Markup:
    raised = alarms.raw if alarms else []
    steps = [alarm["step"] for alarm in raised if alarm["level"] == "critical" and is_number(alarm["step"])]
    return Markup(draw(curve.raw, steps, curve.place))


# --- Markdown


def _markdown(form: str, value: Value) -> str:
    shown = FORMS[form](value.raw)
    return shown if is_number(value.raw) else _literal(shown)


_MARKUP = re.compile(r"[\\`*_{}\[\]<>#|~$@&]|:(?=//)|(?<=\bwww)\.|^[-+=]")
"""What Markdown would obey: a colon and a dot only where they make an address, a sign only at a line's beginning."""
_NUMBERED = re.compile(r"^(\d+)([.)])")


def _literal(text: str) -> str:
    """Text in which nothing is markup, on one line."""
    return _NUMBERED.sub(r"\1\\\2", _MARKUP.sub(_escaped, _one_line(text)))


def _escaped(found: re.Match[str]) -> str:
    return html.escape(found[0]) if found[0] in "<>&" else f"\\{found[0]}"


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _span(value: Value) -> str:
    """A code span, whose fence is longer than any within; a bar would end a table's cell."""
    text = _one_line(FORMS[TEXT](value.raw)).replace("|", "\\|")
    fence = "`" * (_longest_run(text) + 1)
    pad = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{pad}{text or ' '}{pad}{fence}"


def _fenced(value: Value) -> str:
    """A block of code, whose fence is longer than any within."""
    text = FORMS[TEXT](value.raw)
    fence = "`" * max(3, _longest_run(text) + 1)
    return f"{fence}text\n{text}\n{fence}"


def _longest_run(text: str) -> int:
    longest = run = 0
    for character in text:
        run = run + 1 if character == "`" else 0
        longest = max(longest, run)
    return longest
