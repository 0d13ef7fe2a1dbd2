"""Win rates from a judge's votes: their intervals, how far they depend on the order of the answers, and ratings.

Units: rates, shares and their standard errors are percent.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from markov_cot.analysis.bradley_terry import Rating, ratings
from markov_cot.analysis.resampling import Sampling, ratio_stderr
from markov_cot.analysis.tally import NONE, Cell, Games, Pair, Tally
from markov_cot.evaluation.statistics import mcnemar_p_value, wilson_interval
from markov_cot.utils.errors import UserError


@dataclass(frozen=True, slots=True)
class Score:
    """A model's share of the votes."""

    n: int
    """Questions."""
    votes: int
    win_rate: float
    stderr: float | None
    """None for one unit."""
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Position:
    """What became of verdicts when the two answers changed places."""

    n: int
    """Questions, each with one pair of models, that were judged in both orders."""
    first: int
    """Of these, where the answer shown first won in both orders."""
    second: int
    """Where the one shown second did."""
    partly: int
    """Where one order has a winner and the other a tie."""
    first_share: float
    """Mean share of the vote that goes to the answer shown first, over both orders; 50 where no place is preferred."""

    @property
    def depends(self) -> tuple[float, float, float]:
        """How often the order decides between win, tie and loss, with Wilson's 95 % interval."""
        changed = self.first + self.second + self.partly
        low, high = wilson_interval(changed, self.n)
        return 100 * changed / self.n, 100 * low, 100 * high

    @property
    def p_value(self) -> float:
        """Of an exact two-sided sign test of no preference for one of the places."""
        return mcnemar_p_value(self.first, self.second)


@dataclass(frozen=True, slots=True)
class ModelResult:
    """What was found of one model."""

    score: Score | None
    """None where no verdict on it can be read."""
    verdicts: int
    """That can be read."""
    malformed: int
    """That cannot."""
    categories: Mapping[str, Score]
    """By category, where there are several."""
    position: Position | None
    """None where no question was judged in both orders."""


@dataclass(frozen=True)
class WinRates:
    """What was found of all models."""

    n: int
    """Questions."""
    models: Mapping[str, ModelResult]
    """The best first, without those that are baselines throughout."""
    baselines: Sequence[str]
    """Whom they are measured against; none where each is measured against all others."""
    ratings: Mapping[str, Rating]
    """Of every model, the baselines among them."""
    anchor: str | None
    """The model whose rating is 1000; None where the ratings' mean is."""
    left_out: int
    """Verdicts on pairs without the baseline that was asked for."""
    position: Position | None


def win_rates(tally: Tally, baseline: str | None = None, sampling: Sampling | None = None) -> WinRates:
    """Return win rates, position bias and ratings of what was counted.

    A model's win rate is its share of the votes of its games against the baseline, or where there is none, of all its
    games. Raises `UserError` where no verdict can be read, or the baseline has no game.
    """
    sampling = sampling or Sampling()
    if not tally.cells:
        raise UserError(
            f"none of the {sum(tally.malformed.values()):,} verdicts can be read; see docs/winrate.md for the labels"
        )
    anchor = tally.baseline(baseline)
    everything = _Units(tally.by_question(), tally.by_vote() if sampling.unit == "votes" else None)
    rated = ratings(everything.drawn, len(tally.models), anchor, sampling)
    measured = everything if anchor is None else everything.against(anchor)
    cells = tally.by_pair()
    found = {}
    for number, name in enumerate(tally.models):
        if mine := {pair: each for pair, each in cells.items() if _measures(pair, number, anchor)}:
            found[name] = _of_model(measured.of(number), tally, mine, sampling)
    against = {pair: each for pair, each in cells.items() if anchor is None or anchor in pair[:2]}
    bases = np.unique(measured.by_question.base)
    return WinRates(
        n=tally.questions,
        models=dict(sorted(found.items(), key=lambda each: -each[1].score.win_rate if each[1].score else 1)),
        baselines=[tally.models[number] for number in bases if number != NONE],
        ratings=dict(zip(tally.models, rated, strict=True)),
        anchor=None if anchor is None else tally.models[anchor],
        left_out=sum(map(_verdicts, cells.values())) - sum(map(_verdicts, against.values())),
        position=position(chain.from_iterable(against.values())),
    )


def score(of: Games, drawn: Games, sampling: Sampling) -> Score:
    """Return the share of the votes of i in games `of` questions, with an interval over the units of games `drawn`."""
    won, votes, copies = _by_unit(drawn)
    stderr = ratio_stderr(won, votes, copies)
    low = high = None
    if stderr is not None:
        distinct, inverse = np.unique(np.stack([won, votes], 1), axis=0, return_inverse=True)
        counts = np.bincount(inverse.reshape(-1), copies).astype(np.int64)
        blocks = [block @ distinct for block in sampling.draws(counts)]
        sums = np.concatenate(blocks)
        low, high = sampling.interval(100 * sums[:, 0] / sums[:, 1])
    return Score(
        n=len(np.unique(of.unit)),
        votes=int(of.votes.sum()),
        win_rate=100 * float(of.won.sum() / of.votes.sum()),
        stderr=None if stderr is None else 100 * stderr,
        low=low,
        high=high,
    )


def position(cells: Iterable[Cell]) -> Position | None:
    """Return how far verdicts depend on the order, from the questions judged in both; None where there are none.

    A strong verdict counts as any other. Where an order was judged several times, its mean decides.
    """
    n = first = second = partly = 0
    shares = 0.0
    for cell in cells:
        if not (cell.n_first and cell.n_second):
            continue
        as_first, as_second = cell.first / cell.n_first, cell.second / cell.n_second
        n += 1
        shares += (as_first + 1 - as_second) / 2
        first += as_first > 0.5 > as_second
        second += as_first < 0.5 < as_second
        partly += (as_first == 0.5) != (as_second == 0.5)
    return Position(n, first, second, partly, 100 * shares / n) if n else None


@dataclass(frozen=True, slots=True)
class _Units:
    """The same votes twice: by question, and as they are drawn."""

    by_question: Games
    by_vote: Games | None

    @property
    def drawn(self) -> Games:
        return self.by_question if self.by_vote is None else self.by_vote

    def against(self, baseline: int) -> _Units:
        return _Units(self.by_question.against(baseline), self.by_vote and self.by_vote.against(baseline))

    def of(self, model: int) -> _Units:
        return _Units(self.by_question.of(model), self.by_vote and self.by_vote.of(model))

    def score(self, sampling: Sampling, category: int | None = None) -> Score | None:
        of, drawn = self.by_question, self.drawn
        if category is not None:
            of, drawn = of.only(of.category == category), drawn.only(drawn.category == category)
        return score(of, drawn, sampling) if len(of.unit) else None


def _of_model(mine: _Units, tally: Tally, cells: Mapping[Pair, Sequence[Cell]], sampling: Sampling) -> ModelResult:
    categories = enumerate(tally.categories) if len(tally.categories) > 1 else ()
    return ModelResult(
        score=mine.score(sampling),
        verdicts=sum(map(_verdicts, cells.values())),
        malformed=sum(tally.malformed[pair] for pair in cells),
        categories={name: found for i, name in categories if (found := mine.score(sampling, i))},
        position=position(chain.from_iterable(cells.values())),
    )


def _measures(pair: Pair, number: int, anchor: int | None) -> bool:
    """Whether games of a pair count for a model's win rate; where there is an anchor, those against it alone do."""
    if anchor is None:
        return number in pair[:2] and number != pair[2]
    return {number, anchor} == set(pair[:2]) and number != anchor


def _verdicts(cells: Sequence[Cell]) -> int:
    return sum(cell.n_first + cell.n_second for cell in cells)


def _by_unit(games: Games) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Votes won, votes and copies of each unit."""
    _, first, inverse = np.unique(games.unit, return_index=True, return_inverse=True)
    won, votes = (np.bincount(inverse, values) for values in (games.won, games.votes))
    return won, votes, games.copies[first]
