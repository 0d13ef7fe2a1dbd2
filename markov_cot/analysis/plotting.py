"""Curves with their bands, as PNG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from markov_cot.utils.files import replacing
from markov_cot.utils.text import visible


@dataclass(frozen=True, slots=True)
class Curve:
    """Means over x, with 95 % intervals."""

    name: str
    x: Sequence[float]
    mean: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]


def save_curves(path: Path, curves: Sequence[Curve], title: str, x_label: str, y_label: str) -> None:
    """Draw curves in one picture."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for curve in curves:
        # A name is a dataset's or a model's: a dollar sign in it is no formula.
        [line] = axes.plot(curve.x, curve.mean, marker="o", markersize=3, label=curve.name.replace("$", r"\$"))
        axes.fill_between(curve.x, curve.low, curve.high, alpha=0.15, linewidth=0, color=line.get_color())
    axes.set(xlabel=x_label, ylabel=y_label)
    axes.set_title(visible(title), parse_math=False)
    axes.axhline(0, color="black", linewidth=0.5)
    axes.grid(alpha=0.3)
    if curves:
        axes.legend(fontsize="small")
    with replacing(path) as file:
        figure.savefig(file, format="png", dpi=150)
