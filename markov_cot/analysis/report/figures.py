"""Curves as inline SVG, drawn by matplotlib: the same document gives the same bytes, in the page's own colours."""

from __future__ import annotations

import hashlib
import html
import io
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from markov_cot.utils.text import visible

WIDTH, HEIGHT = 4.4, 2.6
"""Inches."""
INK, FAINT, ALARM = "#010101", "#020202", "#030303"
SERIES = ("#040401", "#040402", "#040403", "#040404", "#040405", "#040406", "#040407", "#040408")
"""Stand for the colours of the page, which are other ones in the dark and may be changed by its style sheet."""
DASHES = ("solid", "dashed", "dotted", "dashdot")
"""Of the first as many series as there are colours, of the next as many, and so on."""
_COLOURS = {
    INK: "var(--ink)",
    FAINT: "var(--faint)",
    ALARM: "var(--alarm)",
    **{colour: f"var(--series-{i})" for i, colour in enumerate(SERIES)},
}
_SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": FAINT,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": FAINT,
    "grid.linewidth": 0.4,
    "legend.frameon": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "path.simplify": True,
}


def draw(curve: Mapping[str, Any], alarms: Sequence[int] = (), place: str = "") -> str:
    """Return an `<svg>` of a curve's series over the steps, with their bands, and a line at each alarm's step.

    Two equal curves of a page need different places for their ids to differ.
    """
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    # What ids within the picture are made of: no two pictures of a page may share one.
    salt = hashlib.sha256(json.dumps([curve, list(alarms), place], sort_keys=True).encode()).hexdigest()[:12]
    with matplotlib.rc_context(_SETTINGS | {"svg.hashsalt": salt}):
        figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
        axes = figure.subplots()
        for i, series in enumerate(curve["series"]):
            colour, dashes = SERIES[i % len(SERIES)], DASHES[i // len(SERIES) % len(DASHES)]
            marker = "o" if len(series["steps"]) < 40 else None
            name = visible(series.get("name", series["key"])).replace("$", r"\$")  # which begins a formula
            axes.plot(
                series["steps"],
                series["values"],
                color=colour,
                linestyle=dashes,
                marker=marker,
                markersize=2.5,
                linewidth=1.2,
                label=name,
            )
            if series["low"] is not None:
                axes.fill_between(series["steps"], series["low"], series["high"], color=colour, alpha=0.18, linewidth=0)
        for step in alarms:
            axes.axvline(step, color=ALARM, linewidth=0.9, linestyle=(0, (4, 2)))
        axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
        axes.set(xlabel="step", ylabel=visible(curve["unit"]))
        axes.grid(alpha=0.6)
        if len(curve["series"]) > 1:
            axes.legend(fontsize="small", labelcolor=INK)
        file = io.StringIO()
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return _inlined(file.getvalue(), f"{curve['title']} over the steps", salt)


def _inlined(svg: str, label: str, salt: str) -> str:
    """The picture as an element of a page: no prologue, the page's colours, a label, ids of its own."""
    svg = svg[svg.index("<svg") :].strip()
    svg = re.sub(r"<metadata>.*?</metadata>\s*|<!--.*?-->\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<style type=\"text/css\">.*?</style>", "", svg, flags=re.DOTALL)
    for colour, variable in _COLOURS.items():
        svg = svg.replace(colour, variable)
    svg = re.sub(
        r' id="(?:figure|axes|patch|line2d|matplotlib\.axis|xtick|ytick|text|legend|\w+Collection)_\d+"', "", svg
    )
    svg = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{salt}-", svg)
    svg = re.sub(r"font-family: [^;\"]*;? ?", "", svg)
    return re.sub(r"<svg ", f'<svg role="img" aria-label="{html.escape(label)}" ', svg, count=1)
