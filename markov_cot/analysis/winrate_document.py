"""From files of verdicts to win rates, and the JSON document of what was found."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from markov_cot.analysis.bradley_terry import START, Rating, expected_share
from markov_cot.analysis.judgements import AUTO, Source, read_verdicts
from markov_cot.analysis.resampling import Sampling
from markov_cot.analysis.tally import Tally
from markov_cot.analysis.verdict_formats import OPPONENT
from markov_cot.analysis.verdicts import STRONG
from markov_cot.analysis.winrate import ModelResult, Position, WinRates, win_rates
from markov_cot.utils.errors import UserError

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked."""

    files: Sequence[Path]
    expected: str = AUTO
    """The files' format."""
    baseline: str | None = None
    opponent: str = OPPONENT
    """The baseline of judgements that do not name theirs."""
    strong: int = STRONG
    """Votes that a strong verdict counts for."""
    sampling: Sampling = field(default_factory=Sampling)


@dataclass(frozen=True, slots=True)
class Measured:
    """What was found, and in what."""

    asked: Request
    sources: Sequence[Source]
    tally: Tally
    rates: WinRates


def measure(asked: Request) -> Measured:
    """Read files and compute. Raises `UserError` for bad files, and for one that is given twice."""
    tally, sources = Tally(), list[Source]()
    for path in asked.files:
        found = read_verdicts(path, tally.add, expected=asked.expected, opponent=asked.opponent, strong=asked.strong)
        if same := next((each for each in sources if each.sha256 == found.sha256), None):
            raise UserError(f"{path}: has the same content as {same.path}; give each file once")
        sources.append(found)
    return Measured(asked, sources, tally, win_rates(tally, asked.baseline, asked.sampling))


def as_json(found: Measured) -> dict[str, Any]:
    """Return the document: percent, ratings in Elo; null for what is not defined, or infinite."""
    asked, rates, tally = found.asked, found.rates, found.tally
    sampling = asked.sampling
    return {
        "format": FORMAT,
        "n": rates.n,
        "seed": sampling.seed,
        "settings": {
            "format": asked.expected,
            "baseline": asked.baseline,
            "opponent": asked.opponent,
            "strong": asked.strong,
            "resample": sampling.unit,
            "resamples": sampling.resamples,
            "level": sampling.level,
        },
        "inputs": [
            {"file": str(each.path), "sha256": each.sha256, "format": each.format, "rows": each.rows}
            for each in found.sources
        ],
        "judges": list(tally.judges),
        "baselines": list(rates.baselines),
        "models": {name: _model(each) for name, each in rates.models.items()},
        "left_out": rates.left_out,
        "malformed": {
            "n": sum(tally.malformed.values()),
            "labels": [{"label": label, "n": count} for label, count in tally.labels.most_common()],
        },
        "position": _position(rates.position),
        "bradley_terry": {
            "anchor": rates.anchor,
            "mean": START if rates.anchor is None else None,
            "models": {name: _rating(each, rates.anchor) for name, each in rates.ratings.items()},
        },
    }


def _model(found: ModelResult) -> dict[str, Any]:
    empty = {"n": 0, "votes": 0, "win_rate": None, "stderr": None, "low": None, "high": None}
    return {
        **(asdict(found.score) if found.score else empty),
        "verdicts": found.verdicts,
        "malformed": found.malformed,
        "categories": {name: asdict(each) for name, each in found.categories.items()},
        "position": _position(found.position),
    }


def _position(found: Position | None) -> dict[str, Any] | None:
    if found is None:
        return None
    depends, low, high = found.depends
    return {**asdict(found), "depends": depends, "low": low, "high": high, "p": found.p_value}


def _rating(found: Rating, anchor: str | None) -> dict[str, Any]:
    against_anchor = None if anchor is None else _finite(100 * expected_share(found.value))
    return {
        "rating": _finite(found.value),
        "low": _finite(found.low),
        "high": _finite(found.high),
        "win_rate": against_anchor,
        "undetermined": found.undetermined,
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
