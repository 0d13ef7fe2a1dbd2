"""Held-out accuracy by subject, or by how long the problem is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markov_cot.analysis.report.sources import Source
from markov_cot.evaluation.statistics import wilson_interval

BINS = 4
"""Of length, with as many problems each as can be."""
FEWEST = 5
"""Problems of a group; smaller subjects are not listed."""
Row = Mapping[str, Any]


def groups(source: Source) -> dict[str, Any] | None:
    """Return accuracy of base and trained by group, from the answers behind the final score; None without them.

    By subject where problems have one and enough share it, else by characters of passage, question and choices, in
    quarters of the problems.
    """
    if source.run is None:
        return None
    trained = source.run.final_answers("trained")
    base = {row["problem"]: row for row in source.run.final_answers("base")}
    if not trained or trained[0]["right"] is None or any(row["problem"] not in base for row in trained):
        return None
    subjects = _subjects(trained) if all(row.get("subject") for row in trained) else []
    members = subjects or _quarters(trained)
    return {
        "by": "subject" if subjects else "length",
        "groups": [
            {
                **about,
                "n": len(rows),
                "base": _accuracy([base[row["problem"]] for row in rows]),
                "trained": _accuracy(rows),
            }
            for about, rows in members
        ],
    }


def _subjects(rows: Sequence[Row]) -> list[tuple[dict[str, Any], list[Row]]]:
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row["subject"], []).append(row)
    return [({"name": name}, of) for name, of in sorted(found.items()) if len(of) >= FEWEST]


def _quarters(rows: Sequence[Row]) -> list[tuple[dict[str, Any], list[Row]]]:
    """Problems of one length are in one bin, so there may be fewer."""
    ordered = sorted(rows, key=_length)
    lengths = [_length(row) for row in ordered]
    bounds = sorted({lengths[len(lengths) * i // BINS] for i in range(BINS)})
    bins = []
    for i, low in enumerate(bounds):
        below = bounds[i + 1] if i + 1 < len(bounds) else lengths[-1] + 1
        of = [row for row in ordered if low <= _length(row) < below]
        bins.append(({"low": low, "high": _length(of[-1])}, of))
    return bins


def _length(row: Row) -> int:
    return len(row.get("passage", "")) + len(row.get("question", "")) + sum(map(len, row.get("choices", ())))


def _accuracy(rows: Sequence[Row]) -> dict[str, float]:
    right = sum(row["right"] for row in rows)
    low, high = wilson_interval(right, len(rows))
    return {"mean": right / len(rows), "low": low, "high": high}
